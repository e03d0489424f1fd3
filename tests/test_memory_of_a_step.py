"""No array of edges x paths x channels numbers is made in inference by the fused variants."""

import pytest
import torch
from tests.small import MACE_DENSITY, random_mace, random_potential
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tpcalc.nn.radial_spline import spline_radials
from tpcalc.potential import energy_and_edge_gradient

NODES, EDGES = 20, 3000


class Largest(TorchDispatchMode):
    """Sees every tensor that an operator returns, forward and backward."""

    def __init__(self):
        super().__init__()
        self.numbers, self.name, self.seen = 0, "", set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen.add(str(func))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage().nbytes() > 0:
                stored = x.untyped_storage().nbytes() // x.element_size()
                if stored > self.numbers:
                    self.numbers, self.name = stored, str(func)
        return out


def step(potential):
    """One energy and force step on a random graph."""
    generator = torch.Generator().manual_seed(0)
    species = torch.randint(3, (NODES,), generator=generator)
    receivers = torch.arange(EDGES) * NODES // EDGES
    senders = torch.randint(NODES, (EDGES,), generator=generator)
    vectors = torch.randn(EDGES, 3, generator=generator, dtype=torch.float64)
    vectors = torch.nn.functional.normalize(vectors) * 2.5
    index = torch.stack([receivers, senders])
    energy_and_edge_gradient(potential, species, index, vectors, NODES)


def largest(potential) -> Largest:
    """What the operators of a step return."""
    with Largest() as watch:
        step(potential)
    assert any("backward" in name or "bwd" in name for name in watch.seen), watch.seen
    return watch


def largest_allocation(potential) -> int:
    """The most float64 numbers allocated at once, inside the compiled ops too."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step(potential)
    events = profile.profiler.kineto_results.events()
    return max(e.nbytes() for e in events if e.name() == "[memory]") // 8


def network(function="cg"):
    """Edges x paths x channels exceed all that nodes or edges need; hidden layers are narrow."""
    if function == "mace":
        potential = random_mace(hidden_irreps="16x0e+16x1o", **MACE_DENSITY)
    else:
        n = 16 if function == "shared" else 8  # which has few weights
        hidden = f"{n}x0e+{n}x1o+{n}x2e"
        potential = random_potential(function, hidden_irreps=hidden, radial_hidden=[8])
    return potential, EDGES * min(layer.conv.weight_numel for layer in potential.model.layers)


@pytest.mark.parametrize("function", ["cg", "shared", "gaunt", "mace"])
@pytest.mark.parametrize("radial", ["spline", "network"])
def test_fused_makes_none(radial, function):
    potential, weights = network(function)
    potential.swap(f"{potential.config['function']}/fused")
    if radial == "spline":
        potential = spline_radials(potential)
    for layer in potential.model.layers:
        layer.most_weights = 0  # as for very many edges
        layer.conv.edges_of_block = 500
    watch = largest(potential)
    op = "conv_radial_bwd" if radial == "spline" else "conv_network_bwd"
    assert any(op in name for name in watch.seen)
    assert watch.numbers < weights, f"{watch.name} made {watch.numbers} numbers"
    assert largest_allocation(potential) < weights


@pytest.mark.parametrize("variant", ["cg/reference", "cg/e3nn", "cg/grouped"])
def test_others_do(variant):
    """So that the test above can fail."""
    potential, weights = network()
    potential.swap(variant)
    assert largest(potential).numbers >= weights
    assert largest_allocation(potential) >= weights


def test_few_edges_keep_their_weights():
    """Below `most_weights` the fused variant stores them: faster, and bounded."""
    potential, weights = network()
    assert largest(potential.swap("cg/fused")).numbers >= weights
    assert weights <= min(layer.most_weights for layer in potential.model.layers)
