"""How much more work than one core several do on this machine: what no program can exceed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from tpcalc.bench.turns import Clock

READ = 2**24  # float32 numbers: 67 MB, beyond any cache that is a core's own


def core_scaling(threads: int, repeat: int = 15) -> dict[str, float]:
    """Work of `threads` that know nothing of each other, over that of one, in turn, medians.

    Returns:
        {"multiply": products of matrices that stay in the cache, "read": sums over memory};
        `threads` is ideal. Virtual cores that share a real one or its memory do less.
    """
    arrays = [torch.ones(READ) for _ in range(threads)]
    small = [torch.ones(3, 128, 128) for _ in range(threads)]  # 0.2 MB

    def multiply(n: int) -> None:
        for _ in range(500):
            torch.mm(small[n][0], small[n][1], out=small[n][2])

    work = {"multiply": multiply, "read": lambda n: arrays[n].sum()}
    with (
        Clock(1),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        return {name: _scaling(pool, job, threads, repeat) for name, job in work.items()}


def _scaling(pool: ThreadPoolExecutor, job: Callable, threads: int, repeat: int) -> float:
    def seconds(*numbers: int) -> float:
        start = time.perf_counter()
        list(pool.map(job, numbers))
        return time.perf_counter() - start

    # one by one, each with its own memory: two pieces of memory are not always equally fast
    numbers = range(threads)
    ratios = [sum(map(seconds, numbers)) / seconds(*numbers) for _ in range(repeat + 1)]
    return statistics.median(ratios[1:])
