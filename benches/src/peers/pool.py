"""Pools of two workers: multiprocessing.Pool, concurrent.futures.ProcessPoolExecutor, loky's executor.

Started with the CPUs to run on, which it leaves to the kernel, and the job. Reads from standard input how many
operations, and answers with the nanoseconds that they took, until the input ends.
"""

import concurrent.futures
import multiprocessing
import signal
import sys
import time

WORKERS = 2
LARGE = bytes(1 << 20)


def square(number):
    return number * number


def echo(data):
    return data


def expect(good):
    if not good:
        sys.exit("a pool answered something else")


def squares(results, count):
    expect(results == [number * number for number in range(count)])


def timed(count, body):
    start = time.monotonic_ns()
    results = body(count)
    return time.monotonic_ns() - start, results


def start(context):
    def one(count):
        for _ in range(count):
            pool = context.Pool(WORKERS)
            pool.close()
            pool.join()

    return lambda count: timed(count, one)[0]


def mapped(run):
    def one(count):
        took, results = timed(count, run)
        squares(results, count)
        return took

    return one


def one_by_one(run):
    def all_of(count):
        return sum(run(number) for number in range(count))

    def one(count):
        took, total = timed(count, all_of)
        expect(total == sum(number * number for number in range(count)))
        return took

    return one


def large(pool):
    def one(count):
        took, length = timed(count, lambda count: sum(len(pool.apply(echo, (LARGE,))) for _ in range(count)))
        expect(length == count * len(LARGE))
        return took

    return one


def side(job, context):
    """What runs the job. It brings the pool, warm, which lives as long as this process."""
    if job == "start":
        return start(context)
    if job == "submit":
        executor = concurrent.futures.ProcessPoolExecutor(WORKERS, context)
        return one_by_one(lambda number: executor.submit(square, number).result())
    if job == "loky":
        import loky

        executor = loky.get_reusable_executor(max_workers=WORKERS, timeout=60)
        return mapped(lambda count: list(executor.map(square, range(count))))
    pool = context.Pool(WORKERS)
    if job == "chunk1":
        return mapped(lambda count: pool.map(square, range(count), chunksize=1))
    if job == "map":
        return mapped(lambda count: pool.map(square, range(count)))
    if job == "apply":
        return one_by_one(lambda number: pool.apply(square, (number,)))
    if job == "large":
        return large(pool)
    sys.exit(f"no such job: {job}")


def main():
    signal.alarm(60)
    run = side(sys.argv[-1], multiprocessing.get_context("fork"))
    for line in sys.stdin:
        print(run(int(line)), flush=True)


main()
