"""CP factors of the summed coupling tensor: alternating least squares, then Gauss-Newton.

`python -m tpcalc.analysis.cp_fit --lmax 2 --kind natural --rank 20 --seconds 60 --out FILE`
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from tpcalc.errors import InputError
from tpcalc.tensor_products.shared.cp_factors import (
    KINDS,
    STORED,
    Factors,
    relative_error,
    save_factors,
    target_tensor,
)


def fit(
    dense: torch.Tensor, rank: int, seconds: float = 60.0, seed: int = 0, goal: float = 2e-15,
    starts: int = 1000, sweeps: int = 1500, progress=None,
) -> Factors:  # fmt: skip
    """The best factors found within `seconds`, from random starts (float64).

    Stops early at relative error `goal` or after `starts` starts. Below the exact rank the
    problem has no minimum (border rank: factors grow without bound); a vanishing ridge keeps
    them finite. `progress` is called with (start, error of it, best error).

    Raises:
        InputError: rank below 1.
    """
    if rank < 1:
        raise InputError(f"rank is {rank}; it must be at least 1")
    end = time.monotonic() + seconds
    generator = torch.Generator().manual_seed(seed)
    best = Factors(*(torch.zeros(d, rank, dtype=torch.float64) for d in dense.shape), 1.0)
    for start in range(starts):
        factors = [
            torch.randn(d, rank, generator=generator, dtype=torch.float64) / d**0.5
            for d in dense.shape
        ]
        factors = _alternate(dense, factors, sweeps, end)
        error = relative_error(dense, *factors)
        # polishing costs (d1 d2 d3)^3: only where it can still win
        if error < 10 * best.error:
            factors = _gauss_newton(dense, factors, end)
            error = relative_error(dense, *factors)
        if error < best.error:
            best = Factors(*factors, error)
        if progress:
            progress(start, error, best.error)
        if best.error < goal or time.monotonic() > end:
            break
    return best


def _alternate(dense, factors, sweeps: int, end: float) -> list[torch.Tensor]:
    """Regularised alternating least squares; the ridge follows the error down."""
    unfolded = [dense.movedim(m, 0).flatten(1) for m in range(3)]
    rank = factors[0].shape[1]
    eye = torch.eye(rank, dtype=torch.float64)
    ridge, last = 1e-2, 1.0
    for sweep in range(sweeps):
        for m in range(3):
            one, two = (factors[n] for n in range(3) if n != m)
            product = (one[:, None] * two[None]).flatten(0, 1)
            gram = (one.T @ one) * (two.T @ two) + ridge * eye
            right = unfolded[m] @ product + ridge * factors[m]
            factors[m] = torch.linalg.solve(gram, right.T).T
        if sweep % 50 == 49:
            factors = _balance(factors)
            error = relative_error(dense, *factors)
            ridge = min(1e-2, max(1e-2 * error**2, 1e-13))
            stalled = sweep > 600 and error > 0.97 * last and error > 1e-3
            last = error
            if error < 1e-5 or stalled or time.monotonic() > end:
                break
    return factors


def _gauss_newton(dense, factors, end: float, steps: int = 200) -> list[torch.Tensor]:
    """Levenberg-Marquardt in the dual form, (J J^T + ridge) over the entries of the tensor."""
    factors = _balance(factors)
    error = relative_error(dense, *factors)
    ridge = max(1e-8, error**2)
    flat = 0
    for _ in range(steps):
        a, b, c = factors
        residual = (torch.einsum("ir,jr,kr->ijk", a, b, c) - dense).flatten()
        step = _step(a, b, c, residual, ridge)
        trial = _balance([f - s for f, s in zip(factors, step)])
        after = relative_error(dense, *trial)
        if after < error:
            flat = flat + 1 if after > 0.99 * error else 0
            factors, error, ridge = trial, after, max(ridge / 5, 1e-15)
        else:
            ridge *= 10
        if error < 3e-16 or ridge > 1e3 or flat > 20 or time.monotonic() > end:
            break
    return factors


def _step(a, b, c, residual, ridge: float) -> list[torch.Tensor]:
    """-(Gauss-Newton step). J J^T is a sum of three products of Gram matrices."""
    di, dj, dk = a.shape[0], b.shape[0], c.shape[0]
    ga = torch.einsum("jr,kr,lr,mr->jklm", b, c, b, c)  # rows of the block of a, i = i'
    gb = torch.einsum("ir,kr,lr,mr->iklm", a, c, a, c)
    gc = torch.einsum("ir,jr,lr,mr->ijlm", a, b, a, b)
    gram = torch.zeros(di, dj, dk, di, dj, dk, dtype=a.dtype)
    for i in range(di):
        gram[i, :, :, i] += ga
    for j in range(dj):
        gram[:, j, :, :, j] += gb
    for k in range(dk):
        gram[:, :, k, :, :, k] += gc
    n = di * dj * dk
    gram = gram.view(n, n)
    gram.diagonal().add_(ridge)
    dual = torch.cholesky_solve(residual[:, None], torch.linalg.cholesky(gram))
    dual = dual.view(di, dj, dk)
    return [
        torch.einsum("ijk,jr,kr->ir", dual, b, c),
        torch.einsum("ijk,ir,kr->jr", dual, a, c),
        torch.einsum("ijk,ir,jr->kr", dual, a, b),
    ]


def _balance(factors) -> list[torch.Tensor]:
    """Equal column norms of the three factors."""
    norms = [f.norm(dim=0).clamp_min(1e-150) for f in factors]
    mean = (norms[0] * norms[1] * norms[2]) ** (1 / 3)
    return [f * (mean / n) for f, n in zip(factors, norms)]


def main(argv: list[str] | None = None) -> int:
    """Fit one rank and add it to a file."""
    parser = argparse.ArgumentParser(prog="python -m tpcalc.analysis.cp_fit", description=__doc__)
    parser.add_argument("--lmax", type=int, required=True)
    parser.add_argument("--kind", choices=KINDS, default="all")
    parser.add_argument("--rank", type=int, required=True, nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0, help="per rank")
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--sweeps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(STORED), help="file to add to; default: the package's")
    args = parser.parse_args(argv)
    dense = target_tensor(args.lmax, args.kind)
    for rank in args.rank:

        def show(start, error, best, rank=rank):
            if sys.stderr.isatty():
                print(f"rank {rank} start {start}: {error:.2e}, best {best:.2e} ",
                      file=sys.stderr, end="\r", flush=True)  # fmt: skip

        factors = fit(dense, rank, args.seconds, args.seed, starts=args.starts,
                      sweeps=args.sweeps, progress=show)  # fmt: skip
        save_factors(args.lmax, args.kind, factors, args.out)
        print(f"lmax {args.lmax} {args.kind} rank {rank}: relative error {factors.error:.2e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
