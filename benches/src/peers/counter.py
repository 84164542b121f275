"""multiprocessing.Value: incremented under its lock by this process and a child at once.

Started with the two CPUs to run on. Reads from standard input how many times in all, and answers with the nanoseconds
that it took, until the input ends.
"""

import multiprocessing
import os
import signal
import sys
import time


def count(value, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def help(value, orders, mine, cpu):
    # The parent's end, inherited: with it open, this process would never see that the parent is gone.
    mine.close()
    signal.alarm(60)
    os.sched_setaffinity(0, {cpu})
    while True:
        try:
            times = orders.recv()
        except EOFError:
            return
        # Both start at one shot: this one is ready, and the other answers.
        orders.send(None)
        orders.recv()
        count(value, times)
        orders.send(None)


def main():
    signal.alarm(60)
    cpus = [int(argument) for argument in sys.argv[1:]]
    context = multiprocessing.get_context("fork")
    value = context.Value("q", 0)
    orders, theirs = context.Pipe()
    child = context.Process(target=help, args=(value, theirs, orders, cpus[-1]), daemon=True)
    child.start()
    theirs.close()
    os.sched_setaffinity(0, {cpus[0]})
    for line in sys.stdin:
        times = int(line)
        half = times // 2
        value.value = 0
        orders.send(half)
        orders.recv()
        orders.send(None)
        start = time.monotonic_ns()
        count(value, times - half)
        orders.recv()
        took = time.monotonic_ns() - start
        if value.value != times:
            sys.exit("multiprocessing.Value lost increments")
        print(took, flush=True)
    orders.close()
    child.join()


main()
