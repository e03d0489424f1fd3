"""Splined radial weights: the op against plain PyTorch, the fit, a whole potential."""

import math
import os
import subprocess
import sys

import pytest
import torch
from tests.small import agree_to_second_order, ethanol, random_potential
from tpcalc.calculator import TPCalculator
from tpcalc.errors import InputError
from tpcalc.export import export_potential
from tpcalc.kernels.ops import load_ops
from tpcalc.nn.cutoff import XplorCutoff
from tpcalc.nn.radial_spline import spline_radials
from tpcalc.nn.spline_table import SplineTable, fit_splines, spline_values
from tpcalc.potential import build_potential, energy_and_edge_gradient
from tpcalc.tensor_products import convolution

F64 = torch.float64
NO_KIND = torch.zeros(0, dtype=torch.long)


@pytest.fixture(scope="module", autouse=True)
def _ops():
    load_ops()


def lengths(n=30):
    return torch.cat([torch.rand(n, dtype=F64) * 5, torch.tensor([0.0, 4.9999, 5.0, 6.0])])


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("columns", [1, 8, 37])
def test_values_and_derivatives(order, columns):
    table = SplineTable(torch.randn(23, columns, dtype=F64), 0.25, 0, 0)
    r = lengths()
    out = torch.ops.tpcalc.radial_table(r, NO_KIND, table.coef[None], table.step, order)
    torch.testing.assert_close(out, spline_values(table, r, order), rtol=1e-11, atol=1e-11)


def test_kinds_and_gradients():
    coef = torch.randn(3, 23, 5, dtype=F64)
    r = (torch.rand(12, dtype=F64) * 5).requires_grad_(True)
    kind = torch.randint(3, (12,))

    def run(r):
        return torch.ops.tpcalc.radial_table(r, kind, coef, 0.25, 0)

    for e in range(12):
        one = spline_values(SplineTable(coef[kind[e]], 0.25, 0, 0), r[e : e + 1])
        torch.testing.assert_close(run(r)[e : e + 1], one)
    assert torch.autograd.gradcheck(run, (r,))
    assert torch.autograd.gradgradcheck(run, (r,))


@pytest.mark.parametrize("variant", ["cg/fused", "shared/fused", "gaunt/fused"])
def test_convolution_with_splines_is_convolution_with_their_values(variant):
    conv = convolution(variant, "5x0e+5x1o+5x2e", "0e+1o+2e")
    columns = conv.tensor_product.op_weights(torch.zeros(1, conv.weight_numel, dtype=F64)).shape[1]
    coef = torch.randn(23, columns, dtype=F64)
    splined = conv.splined(coef, 0.25)
    feats = torch.randn(6, conv.irreps_node.dim, dtype=F64, requires_grad=True)
    basis = torch.randn(40, 9, dtype=F64, requires_grad=True)
    r = (torch.rand(40, dtype=F64) * 5.5).requires_grad_(True)
    senders, receivers = torch.randint(6, (40,)), torch.randint(6, (40,))
    product = conv.tensor_product
    tables = (product.op_paths, product.op_couplings, product.op_coef, 6, conv.out_dim)

    def plain(feats, basis, r):
        w = torch.ops.tpcalc.radial_table(r, NO_KIND, coef[None], 0.25, 0)
        return torch.ops.tpcalc.conv(feats, basis, w, senders, receivers, *tables)

    def fused(feats, basis, r):
        return splined(feats, basis, r.unsqueeze(1), senders, receivers)

    leaves = (feats, basis, r)
    out, want = fused(*leaves), plain(*leaves)
    agree_to_second_order(out, want, leaves)


def test_fit_reaches_its_tolerance():
    def function(r):
        envelope = (1 - (r / 5) ** 2).clamp(min=0) ** 3
        return torch.stack([torch.sin(2 * r) * envelope, torch.exp(-r) * envelope], 1)

    table = fit_splines(function, 5.0, 1e-7)
    assert table.error < 1e-7
    assert table.slope_error < 1e-4
    r = torch.rand(1000, dtype=F64) * 4.5 + 0.5
    assert (spline_values(table, r) - function(r)).abs().max() < 1.1e-7
    assert not spline_values(table, torch.tensor([5.0, 7.0], dtype=F64)).any()
    coarse = fit_splines(function, 5.0, 1e-4)
    assert len(coarse.coef) < len(table.coef)


@pytest.mark.parametrize("onset", [4.5, 4.0, 3.3, math.pi])
def test_two_splines_meet_at_a_jump_of_the_second_derivative(onset):
    cutoff = XplorCutoff(5.0, onset)

    def inner(r):
        return torch.stack([torch.sin(2 * r), torch.exp(-r)], 1)

    def function(r):
        return inner(r) * cutoff(r)[:, None]

    table = fit_splines(function, 5.0, break_at=onset)
    assert table.error < 1e-6
    assert table.slope_error < 5e-6
    r = torch.rand(2000, dtype=F64) * 4.5 + 0.5
    assert (spline_values(table, r) - function(r)).abs().max() < 1.1e-6
    at = torch.tensor([onset], dtype=F64)
    for order, limit in ((0, 1e-11), (1, 1e-8)):  # the energy is C1
        below, above = spline_values(table, at - 1e-12, order), spline_values(table, at, order)
        assert (above - below).abs().max() < limit
    assert (spline_values(table, at) - function(at)).abs().max() < 1e-13
    jump = spline_values(table, at, 2) - spline_values(table, at - 1e-12, 2)
    exact = -24 * onset**2 / (25 - onset**2) ** 2 * inner(at)  # of the cutoff's closed form
    torch.testing.assert_close(jump, exact, rtol=0, atol=2e-3 * exact.abs().max().item())
    assert not spline_values(table, torch.tensor([5.0, 7.0], dtype=F64)).any()
    piece = (r >= onset).long()
    out = torch.ops.tpcalc.radial_table(r, piece, table.coef, table.step, 1)
    torch.testing.assert_close(out, spline_values(table, r, 1), rtol=1e-11, atol=1e-11)


def test_kink_is_refused():
    def function(r):
        return (r - math.pi).abs().unsqueeze(1) * (r < 5).unsqueeze(1)

    with pytest.raises(InputError, match="keep the network"):
        fit_splines(function, 5.0, 1e-8, most=256)


@pytest.mark.parametrize("function", ["cg", "gaunt"])
def test_potential_with_splines(function):
    exact = random_potential(function).swap(f"{function}/fused")
    splined = spline_radials(exact)
    assert splined.spline_error < 1e-6
    n, edges = 9, 60
    species = torch.randint(3, (n,))
    index = torch.stack([torch.randint(n, (edges,)).sort().values, torch.randint(n, (edges,))])
    vectors = torch.nn.functional.normalize(torch.randn(edges, 3, dtype=F64), dim=1)
    vectors = vectors * (0.8 + 3 * torch.rand(edges, 1, dtype=F64))
    want, slope = energy_and_edge_gradient(exact, species, index, vectors, n)
    energy, gradient = energy_and_edge_gradient(splined, species, index, vectors, n)
    assert (energy - want).abs().max() < 1e-4
    assert (gradient - slope).abs().max() < 1e-3 * slope.abs().max()
    step = torch.randn_like(vectors) * 1e-5  # forces are derivatives of the splined energy
    up, down = (splined(species, index, vectors + s * step, n).sum() for s in (1, -1))
    assert abs((up - down) / 2 - (gradient * step).sum()) < 1e-5 * (gradient * step).norm()


def test_exported_splines_run_where_nothing_was_loaded(tmp_path):
    """In another process, as a user's: the ops are loaded before torch reads the file."""
    file = tmp_path / "small.pt"
    manifest = export_potential(random_potential("cg"), file, "float32", "cg/fused", "spline")
    assert manifest["radial"] == "spline"
    assert 0 < manifest["spline_error"] < 1e-6
    code = (
        "import sys, torch; from tpcalc.export import load_exported\n"
        "module, manifest = load_exported(sys.argv[1])\n"
        "index = torch.tensor([[0, 1], [1, 0]]); v = torch.tensor([[1.0, 0, 0], [-1, 0, 0]])\n"
        "for _ in range(3): energy = module(torch.tensor([0, 1]), index, v, 2).sum()\n"
        "print(energy.item())"
    )
    run = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True,
                         env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)  # fmt: skip
    exact = random_potential("cg")
    index, species = torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1])
    vectors = torch.tensor([[1.0, 0, 0], [-1, 0, 0]], dtype=F64)
    assert abs(float(run.stdout) - exact(species, index, vectors, 2).sum().item()) < 1e-3


def test_calculator_with_splines():
    atoms = ethanol()
    exact = TPCalculator(random_potential("cg"), "cg/fused", dtype="float64")
    splined = TPCalculator(random_potential("cg"), "cg/fused", dtype="float64", radial="spline")
    forces = exact.get_forces(atoms)
    assert abs(exact.get_potential_energy(atoms) - splined.get_potential_energy(atoms)) < 1e-4
    assert abs(splined.get_forces(atoms) - forces).max() < 1e-4 * abs(forces).max()
    with pytest.raises(InputError, match="made for 'cg/fused'"):
        splined.swap("cg/sparse")
    with pytest.raises(InputError, match="auto"):
        TPCalculator(random_potential("cg"), "auto", radial="spline")


MACE = {
    "architecture": "mace", "function": "cg", "species": ["H", "C", "O"], "cutoff": 4.0,
    "hidden_irreps": "4x0e+4x1o", "lmax": 2, "radial_hidden": [8], "correlation": 2,
}  # fmt: skip


@pytest.mark.parametrize("cutoff_at", ["basis", "weights"])
def test_mace_with_splines(cutoff_at):
    torch.manual_seed(3)
    potential = build_potential({**MACE, "cutoff_at": cutoff_at}, "cg/fused")
    atoms = ethanol()
    exact = TPCalculator(potential, dtype="float64")
    splined = TPCalculator(potential, dtype="float64", radial="spline")
    forces = exact.get_forces(atoms)
    assert abs(exact.get_potential_energy(atoms) - splined.get_potential_energy(atoms)) < 1e-4
    assert 0 < abs(splined.get_forces(atoms) - forces).max() < 1e-4 * abs(forces).max()
    script = TPCalculator(potential, dtype="float64", radial="spline", mode="torchscript")
    assert abs(script.get_forces(atoms) - splined.get_forces(atoms)).max() < 1e-10


def test_forces_with_splines_at_an_xplor_cutoff(tmp_path):
    """The second derivative jumps inside: 1e-5 eV/Å, and the same from an exported file."""
    potential = random_potential("cg", cutoff_function="xplor", cutoff_onset=3.1).swap("cg/fused")
    atoms = ethanol()
    exact = TPCalculator(potential, dtype="float64")
    splined = TPCalculator(potential, dtype="float64", radial="spline")
    forces = exact.get_forces(atoms)
    distances = atoms.get_all_distances()
    assert ((distances > 3.1) & (distances < 4)).any()  # Å: both splines are used
    assert 0 < abs(splined.get_forces(atoms) - forces).max() < 1e-5 * max(1, abs(forces).max())
    script = TPCalculator(potential, dtype="float64", radial="spline", mode="torchscript")
    assert abs(script.get_forces(atoms) - splined.get_forces(atoms)).max() < 1e-10
    manifest = export_potential(potential, tmp_path / "x.pt", "float64", "cg/fused", "spline")
    assert 0 < manifest["spline_slope_error"] < 5e-6


def test_splined_potential_cannot_swap():
    splined = spline_radials(random_potential("cg").swap("cg/fused"))
    assert splined.swap("cg/fused") is splined
    with pytest.raises(InputError, match="made for 'cg/fused'"):
        splined.swap("cg/sparse")


def test_only_fused_convolutions_take_splines():
    with pytest.raises(InputError, match="swap to cg/fused first"):
        spline_radials(random_potential("cg").swap("cg/sparse"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"table": torch.randn(23, 5)}, "spline table must be"),
        ({"table": torch.randn(1, 3, 5)}, "spline table must be"),
        ({"step": 0.0}, "must be positive"),
        ({"order": 4}, "orders 0 to 3"),
        ({"kind": torch.ones(4, dtype=torch.long)}, "kind 1 of edge 0"),
        ({"r": torch.rand(4, dtype=F64)}, "in the dtype of the lengths"),
    ],
)
def test_wrong_input_is_refused(change, sentence):
    args = {"r": torch.rand(4), "kind": NO_KIND, "table": torch.randn(1, 23, 5), "step": 0.25,
            "order": 0, **change}  # fmt: skip
    with pytest.raises((RuntimeError, IndexError), match=sentence):
        torch.ops.tpcalc.radial_table(*args.values())
