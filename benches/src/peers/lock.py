"""multiprocessing.Lock: taken, a counter raised, given back, by one process.

Started with the CPUs to run on. Reads from standard input how many times, and answers with the nanoseconds that it
took, until the input ends.
"""

import multiprocessing
import os
import signal
import sys
import time


def main():
    signal.alarm(60)
    os.sched_setaffinity(0, {int(sys.argv[1])})
    lock = multiprocessing.get_context("fork").Lock()
    for line in sys.stdin:
        times = int(line)
        count = 0
        start = time.monotonic_ns()
        for _ in range(times):
            with lock:
                count += 1
        took = time.monotonic_ns() - start
        if count != times:
            sys.exit("counted something else")
        print(took, flush=True)


main()
