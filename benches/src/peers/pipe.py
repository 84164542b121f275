"""multiprocessing.Pipe: a child sends large messages, this process receives and times them.

Started with the two CPUs to run on. Reads from standard input how many messages to move, and answers with the
nanoseconds that it took, until the input ends.
"""

import multiprocessing
import os
import signal
import sys
import time

LARGE = 1 << 20


def send(pipe, orders, others, cpu):
    # The parent's ends, inherited: with them open, this process would never see that the parent is gone.
    for other in others:
        other.close()
    signal.alarm(60)
    os.sched_setaffinity(0, {cpu})
    message = bytearray(LARGE)
    while True:
        try:
            count = orders.recv()
        except EOFError:
            return
        for i in range(count):
            message[:8] = message[-8:] = i.to_bytes(8, "little")
            pipe.send_bytes(message)


def main():
    signal.alarm(60)
    cpus = [int(argument) for argument in sys.argv[1:]]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    orders, theirs = context.Pipe()
    others = (receiver, orders)
    child = context.Process(target=send, args=(sender, theirs, others, cpus[-1]), daemon=True)
    child.start()
    theirs.close()
    sender.close()
    os.sched_setaffinity(0, {cpus[0]})
    for line in sys.stdin:
        count = int(line)
        start = time.monotonic_ns()
        orders.send(count)
        for i in range(count):
            message = receiver.recv_bytes()
            stamp = i.to_bytes(8, "little")
            if len(message) != LARGE or message[:8] != stamp or message[-8:] != stamp:
                sys.exit("multiprocessing.Pipe delivered something else")
        took = time.monotonic_ns() - start
        print(took, flush=True)
    orders.close()
    child.join()


main()
