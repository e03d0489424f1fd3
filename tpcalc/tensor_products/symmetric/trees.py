"""Write kernels/src/trees.inc: polynomials of common symmetric contractions, straight-line code.

Run `python -m tpcalc.tensor_products.symmetric.trees` after a change; a test compares the file with
this. One tree is the polynomial of one output component: which monomials occur. Their coefficients
are data.
"""

from __future__ import annotations

from pathlib import Path

from tpcalc.tensor_products.paths import natural_irreps
from tpcalc.tensor_products.symmetric.cg import CgPolynomial
from tpcalc.tensor_products.symmetric.fused import polynomial_terms

FILE = Path(__file__).parents[2] / "kernels" / "src" / "trees.inc"
# degrees 0..lmax of the features, largest power, outputs: what MACE models use
SHAPES = (
    (1, 2, "0e+1o"), (1, 3, "0e+1o"), (2, 2, "0e+1o"), (2, 3, "0e+1o+2e"), (3, 2, "0e+1o"),
    (3, 3, "0e+1o+2e"),
)  # fmt: skip
HEAD = """\
// made by tpcalc/tensor_products/symmetric/trees.py. TREE(number, components, terms, monomials as
// words of letters), then the nested sum: out += (a + (a + a x_l + ...) x_j + ...) x_i, with the
// a in this order.
// I1, J2: the sum in this bracket begins with a term of its own; I0, J0: it does not.
// Who includes this defines TREE and what it needs of the others; behind it none is left.
"""
MACROS = ("I0(i)", "I1(i)", "J0(j)", "J2(j)", "X(l)", "JE(j)", "IE(i)", "TREE_END(number)")


def trees_source() -> str:
    """The text of trees.inc."""
    lines, seen = [_macro_line("ifndef", m) + f"\n#define {m}\n#endif" for m in MACROS], set()
    for lmax, correlation, out in SHAPES:
        for words, _ in polynomial_terms(CgPolynomial(natural_irreps(lmax), out, correlation)):
            key = ((lmax + 1) ** 2, tuple(words))
            if key not in seen:
                lines += _tree(len(seen), *key)
                seen.add(key)
    lines += [_macro_line("undef", m) for m in ("TREE(number)", *MACROS)]
    return HEAD + "\n".join(lines) + "\n"


def _macro_line(directive: str, macro: str) -> str:
    return f"#{directive} {macro.partition('(')[0]}"


def _tree(number: int, d_in: int, words: tuple[tuple[int, ...], ...]) -> list[str]:
    text = ",".join("".join(chr(ord("a") + i) for i in word) for word in words)
    lines = [f'TREE({number}, {d_in}, {len(words)}, "{text}")']
    for i in range(d_in):
        below = [w for w in words if w[0] == i]
        if not below:
            continue
        inner = []
        for j in sorted({w[1] for w in below if len(w) > 1}):
            ends = [w[2] for w in below if w[1:2] == (j,) and len(w) > 2]
            own = 2 if (i, j) in below else 0
            inner.append(f"J{own}({j}) {''.join(f'X({l}) ' for l in ends)}JE({j})")
        lines.append(f"I{int((i,) in below)}({i}) {' '.join(inner)} IE({i})".replace("  ", " "))
    return [*lines, f"TREE_END({number})"]


if __name__ == "__main__":
    FILE.write_text(trees_source())
