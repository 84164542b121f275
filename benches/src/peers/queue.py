"""multiprocessing.Queue: a child puts, this process gets and times it.

Started with the two CPUs to run on. Reads from standard input how many objects to move, and answers with the
nanoseconds that it took, until the input ends.
"""

import multiprocessing
import os
import signal
import sys
import time


def job(i):
    return (i, i & 7, i * 0.5, "crates/walk/src/lib.rs")


def weigh(job):
    return job[0] + job[1] + int(job[2]) + len(job[3])


def produce(queue, orders, mine, cpu):
    # The parent's end, inherited: with it open, this process would never see that the parent is gone.
    mine.close()
    signal.alarm(60)
    os.sched_setaffinity(0, {cpu})
    while True:
        try:
            count = orders.recv()
        except EOFError:
            return
        for i in range(count):
            queue.put(job(i))


def main():
    signal.alarm(60)
    cpus = [int(argument) for argument in sys.argv[1:]]
    os.sched_setaffinity(0, cpus)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    orders, theirs = context.Pipe()
    child = context.Process(target=produce, args=(queue, theirs, orders, cpus[-1]), daemon=True)
    child.start()
    theirs.close()
    os.sched_setaffinity(0, {cpus[0]})
    for line in sys.stdin:
        count = int(line)
        start = time.monotonic_ns()
        orders.send(count)
        total = 0
        for _ in range(count):
            total += weigh(queue.get())
        took = time.monotonic_ns() - start
        if total != sum(weigh(job(i)) for i in range(count)):
            sys.exit("multiprocessing.Queue delivered something else")
        print(took, flush=True)
    orders.close()
    child.join()


main()
