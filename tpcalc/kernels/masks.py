"""Write src/masks.inc: which entries of M = sum_j C_ijk y_j a single path can fill.

Run `python -m tpcalc.kernels.masks` after a change; a test compares the file with this.
"""

from __future__ import annotations

from pathlib import Path

import torch
from e3nn.o3 import wigner_3j

FILE = Path(__file__).with_name("src") / "masks.inc"
LMAX = 3
DENSE = 0.82  # fuller matrices use the kernel of the full one


def masks_source() -> str:
    """The text of masks.inc: bit i * d3 + k of a mask is set where M_ik may be non-zero."""
    lines = [
        "// made by tpcalc/kernels/masks.py: "
        "X(2 l1 + 1, 2 l3 + 1, entries M_ik that may be non-zero)"
    ]
    for l1 in range(LMAX + 1):
        for l3 in range(LMAX + 1):
            d1, d3 = 2 * l1 + 1, 2 * l3 + 1
            lines.append(f"X({d1}, {d3}, {2 ** (d1 * d3) - 1}ull)")
    for l1 in range(1, LMAX + 1):
        for l2 in range(LMAX + 1):
            for l3 in range(max(1, abs(l1 - l2)), min(LMAX, l1 + l2) + 1):
                used = (wigner_3j(l1, l2, l3, dtype=torch.float64).abs() > 1e-9).any(1)
                if used.float().mean() < DENSE:
                    bits = sum(1 << n for n, bit in enumerate(used.flatten().tolist()) if bit)
                    lines.append(
                        f"X({2 * l1 + 1}, {2 * l3 + 1}, {bits}ull)  // {l1} x {l2} -> {l3}"
                    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(masks_source())
