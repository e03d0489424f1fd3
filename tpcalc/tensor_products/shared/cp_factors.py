"""The tensor a CP decomposition approximates, and the factors stored in the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from e3nn.o3 import wigner_3j
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tpcalc.errors import InputError, check_name

STORED = Path(__file__).with_name("cp_factors.safetensors")
KINDS = ("all", "natural")
EXACT_RANK = {  # smallest rank at which a fit reached round-off; upper bounds of the CP rank
    ("all", 1): 8, ("all", 2): 30, ("all", 3): 92,
    ("natural", 1): 6, ("natural", 2): 18, ("natural", 3): 53,
}  # fmt: skip


class Factors(NamedTuple):
    """M_ijk ~ sum_r a_ir b_jr c_kr, float64; `error` is the relative Frobenius residual."""

    a: torch.Tensor  # [(L+1)^2, R]
    b: torch.Tensor
    c: torch.Tensor
    error: float


def target_tensor(lmax: int, kind: str) -> torch.Tensor:
    """The sum of wigner_3j over all paths with degrees <= lmax: [(lmax+1)^2] * 3, float64.

    `kind` "all" sums every triangle (TDN's tensor, SO(3) only), "natural" the even ones, which
    are the O(3)-allowed paths between natural-parity irreps.
    """
    check_name("kind of paths", kind, KINDS)
    d = (lmax + 1) ** 2
    dense = torch.zeros(d, d, d, dtype=torch.float64)
    for l1 in range(lmax + 1):
        for l2 in range(lmax + 1):
            for l3 in range(abs(l1 - l2), min(lmax, l1 + l2) + 1):
                if kind == "natural" and (l1 + l2 + l3) % 2:
                    continue
                block = wigner_3j(l1, l2, l3, dtype=torch.float64)
                dense[
                    l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2, l3**2 : (l3 + 1) ** 2
                ] = block  # fmt: skip
    return dense


def relative_error(dense: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> float:
    """||M - M^|| / ||M||, Frobenius."""
    return float((torch.einsum("ir,jr,kr->ijk", a, b, c) - dense).norm() / dense.norm())


def default_rank(lmax: int, kind: str) -> int:
    """The exact rank; degree 0 is a plain product.

    Raises:
        InputError: no factors are stored for this degree.
    """
    if lmax == 0:
        return 1
    if (kind, lmax) not in EXACT_RANK:
        raise InputError(
            f"shared/cp has factors for degrees up to 3, not {lmax}; make some with "
            f"`python -m tpcalc.analysis.cp_fit --lmax {lmax} --rank R --out FILE` and pass "
            "factors=FILE, or use shared/edge_matrix, which is exact at every degree"
        )
    return EXACT_RANK[kind, lmax]


def load_factors(
    lmax: int, kind: str, rank: int | None = None, path: str | Path = STORED
) -> Factors:
    """Factors of `target_tensor(lmax, kind)`; rank None takes the exact one.

    So does a rank above it that is not stored: more columns could not do better, and one number
    serves the layers of a network, whose tensors differ.

    Raises:
        InputError: the file has no factors of this rank.
    """
    exact = EXACT_RANK.get((kind, lmax))
    if rank is None or (exact and rank > exact and rank not in stored_ranks(lmax, kind, path)):
        rank = default_rank(lmax, kind)
    if lmax == 0:
        one = torch.ones(1, 1, dtype=torch.float64)
        return Factors(one, one, one, 0.0)
    errors = stored_errors(path)
    key = _key(lmax, kind, rank)
    if key not in errors:
        ranks = sorted(r for l, k, r in map(_split, errors) if (l, k) == (lmax, kind))
        raise InputError(
            f"no CP factors of rank {rank} for degree {lmax} ({kind} paths); stored: "
            f"{ranks or 'none'}. Make them with `python -m tpcalc.analysis.cp_fit --lmax {lmax} "
            f"--kind {kind} --rank {rank} --out FILE` and pass factors=FILE"
        )
    with safe_open(path, "pt") as file:
        a, b, c = (file.get_tensor(f"{key}.{axis}") for axis in "abc")
    return Factors(a, b, c, errors[key])


def stored_errors(path: str | Path = STORED) -> dict[str, float]:
    """key -> residual of everything in a file.

    Raises:
        InputError: there is no such file, or it holds no CP factors.
    """
    if not Path(path).is_file():
        raise InputError(f"no file of CP factors at {path}")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != "tpcalc-cp-1":
        raise InputError(f"{path} holds no CP factors (format {metadata.get('format')!r})")
    return json.loads(metadata["errors"])


def stored_ranks(lmax: int, kind: str, path: str | Path = STORED) -> list[int]:
    """Ranks at hand for one tensor, ascending."""
    return sorted(r for l, k, r in map(_split, stored_errors(path)) if (l, k) == (lmax, kind))


def save_factors(lmax: int, kind: str, factors: Factors, path: str | Path) -> None:
    """Add one set to a file; an earlier set of the same rank stays where it is the better one."""
    errors = stored_errors(path) if Path(path).is_file() else {}
    tensors = load_file(path) if Path(path).is_file() else {}
    key = _key(lmax, kind, factors.a.shape[1])
    if errors.get(key, float("inf")) <= factors.error:
        return
    errors[key] = factors.error
    for axis, factor in zip("abc", factors[:3]):
        tensors[f"{key}.{axis}"] = factor.contiguous()
    metadata = {"format": "tpcalc-cp-1", "errors": json.dumps(errors, sort_keys=True)}
    save_file(tensors, path, metadata)


def _key(lmax: int, kind: str, rank: int) -> str:
    return f"{kind}-{lmax}-{rank}"


def _split(key: str) -> tuple[int, str, int]:
    kind, lmax, rank = key.split("-")
    return int(lmax), kind, int(rank)
