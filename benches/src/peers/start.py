"""multiprocessing.Process: started with an argument and joined, again and again.

Started with the CPUs to run on, which it leaves to the kernel, and the start method. Reads from standard input how many
times, and answers with the nanoseconds that it took, until the input ends.
"""

import multiprocessing
import signal
import sys
import time


def main():
    signal.alarm(60)
    context = multiprocessing.get_context(sys.argv[-1])
    for line in sys.stdin:
        times = int(line)
        start = time.monotonic_ns()
        for _ in range(times):
            # A function that the child has without our text, which it could not import.
            process = context.Process(target=abs, args=(7,))
            process.start()
            process.join()
            if process.exitcode != 0:
                sys.exit(f"a child ended with {process.exitcode}")
        print(time.monotonic_ns() - start, flush=True)


main()
