"""Which exact variant is fastest here: measured once for a system and machine, then remembered."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import tpcalc
from tpcalc.errors import MissingDependency, TpcalcError
from tpcalc.tensor_products import variant_class, variants_of

WARM_UP = 3  # calls before the clock starts: allocators, caches, TorchScript's profiling
ROUNDS = 7
BUDGET = 10.0  # s for all variants together


def exact_variants(function: str) -> tuple[list[str], dict[str, str]]:
    """Exact variants of a function that can run here, and why each other one cannot."""
    usable, missing = [], {}
    for name in variants_of(function):
        try:
            cls = variant_class(name)
        except MissingDependency as error:
            missing[name] = str(error)
            continue
        if not cls.exact:
            continue
        if cls.available():
            usable.append(name)
        else:
            missing[name] = "cannot run on this machine (a kernel that is not built, no compiler)"
    return usable, missing


def runnable_variants(potential) -> tuple[list[str], dict[str, str]]:
    """The same for one potential: some algorithms refuse some irreps, with a reason."""
    names, missing = exact_variants(potential.config["function"])
    usable = []
    for name in names:
        try:
            copy.deepcopy(potential).swap(name)
        except TpcalcError as error:
            missing[name] = str(error)
        else:
            usable.append(name)
    return usable, missing


def fastest(
    candidates: dict[str, Callable[[], object]], budget: float = BUDGET
) -> dict[str, float]:
    """Median seconds of each call, measured in turn (one after the other, round by round).

    Rounds stop at `ROUNDS`, or when `budget` seconds are spent and each was timed once.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    for call in candidates.values():
        for _ in range(WARM_UP):
            call()
            if time.perf_counter() - start > budget / 2:
                break
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
        if time.perf_counter() - start > budget:
            break
    return {name: statistics.median(t) for name, t in times.items()}


def cache_key(potential, num_atoms: int) -> str:
    """One string for all that the fastest variant depends on; atoms in powers of two."""
    parts = [
        tpcalc.__version__, torch.__version__, platform.node(), platform.machine(),
        str(potential.shifts.device), str(potential.dtype), str(torch.get_num_threads()),
        str(max(num_atoms, 1).bit_length()), _identity(potential),
    ]  # fmt: skip
    return " ".join(parts)


def _identity(potential) -> str:
    manifest = getattr(potential, "manifest", None)
    if manifest:
        return manifest["sha256"]
    return hashlib.sha256(json.dumps(potential.config, sort_keys=True).encode()).hexdigest()


def cache_file() -> Path:
    """$XDG_CACHE_HOME/tpcalc/fastest.json, by default below ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tpcalc" / "fastest.json"


def remembered(key: str) -> str | None:
    """The variant chosen earlier, if any; an unreadable cache counts as empty."""
    try:
        return json.loads(cache_file().read_text()).get(key)
    except (OSError, ValueError, AttributeError):
        return None


def remember(key: str, variant: str) -> None:
    """Store a choice; where the cache cannot be written the choice is measured again next time."""
    path = cache_file()
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump({**known, key: variant}, file, indent=1)
        os.replace(file.name, path)
