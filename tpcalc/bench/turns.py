"""Jobs timed in turn in one process, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from tpcalc.errors import InputError
from tpcalc.progress import progress

TURN = 1e-3  # s, at least: shorter calls are repeated within their turn
TURNS = f"turns of at least {1e3 * TURN:g} ms"


class Clock:
    """What a run with this many threads is timed by; sets and restores torch's threads.

    One thread: CPU time of the process (others on the machine do not count); more: wall time. A
    GPU (`of`): wall time, synchronised.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self.now = time.process_time if threads == 1 else time.perf_counter
        self.name = "process CPU time" if threads == 1 else "wall time"

    def of(self, device: str) -> Callable[[], float]:
        """The clock of what runs on a device."""
        return self.now if device == "cpu" else _synchronised

    def __enter__(self) -> Clock:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        return self

    def __exit__(self, *_) -> None:
        torch.set_num_threads(self._before)


def _synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def median_ms(seconds: list[float]) -> float:
    """Median in milliseconds."""
    return 1e3 * statistics.median(seconds)


def p95_ms(seconds: list[float]) -> float:
    """The measured value below which 95 % of them lie, in milliseconds."""
    return 1e3 * sorted(seconds)[int(0.95 * (len(seconds) - 1))]


def check_counts(**counts: int) -> None:
    """Each must be at least one.

    Raises:
        InputError: the first that is not, by name.
    """
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value}; at least 1 is needed")


class Times(NamedTuple):
    """Seconds a call of one job, one number a turn."""

    mean: list[float]  # over the turn
    first: list[float]  # the first call of the turn: the jobs before it have taken the caches


def in_turns(
    jobs: dict, repeat: int, clock: Callable[[], float], title: str, warm_up: int = 3
) -> dict[object, Times]:
    """Times of each job in `repeat` turns, the jobs one after the other in every round.

    A turn is as many calls as make `TURN`, so that a short job is timed beside its own data, as
    in a program that uses it, and its first call in each turn beside those of the others.
    `warm_up` rounds are not timed: torch's profiling executor compiles in the second call.
    """
    times = {key: Times([], []) for key in jobs}
    calls = dict.fromkeys(jobs, 1)
    gc.collect()
    with progress(repeat + warm_up, title, "round") as bar:
        for n in range(repeat + warm_up):
            for key, job in jobs.items():
                mean, first = _turn(job, calls[key], clock)
                if n >= warm_up:
                    times[key].mean.append(mean)
                    times[key].first.append(first)
                elif n == warm_up - 1:
                    calls[key] = math.ceil(TURN / _turn(job, 1, clock)[0])
            bar.update()
    return times


def _turn(job: Callable, calls: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Seconds a call, and of the first one."""
    start = clock()
    job()
    first = clock() - start
    for _ in range(calls - 1):
        job()
    return (clock() - start) / calls, first
