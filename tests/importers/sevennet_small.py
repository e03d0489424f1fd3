"""A SevenNet model written with e3nn's own modules: the oracle, and a checkpoint in its layout."""

import numpy as np
import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate

CUTOFF = 4.0
TYPE_MAP = {6: 0, 1: 1, 8: 2}  # alphabetical by symbol, as SevenNet numbers them


class SmallSevenNet(torch.nn.Module):
    """Two layers; `nequip` or `linear` self-connection; unsorted paths (before v0.11)."""

    def __init__(self, parity: bool, self_connection: str):
        super().__init__()
        full = "4x0e+2x1o+2x2e" if parity else "4x0e+3x1e+2x2e"
        self.parity, self.kind = parity, self_connection
        self.irreps = [o3.Irreps(s) for s in ("4x0e", full, "4x0e")]
        self.sh = o3.Irreps.spherical_harmonics(2, -1 if parity else 1)
        self.embed = o3.Linear("3x0e", self.irreps[0])
        self.coeffs = torch.nn.Parameter(torch.arange(1, 4) * 3.0 / CUTOFF)
        self.parts = torch.nn.ModuleList()
        for x, out in zip(self.irreps, self.irreps[1:]):
            scalars = o3.Irreps([m for m in out if m.ir.l == 0])
            gated = o3.Irreps([m for m in out if m.ir.l > 0])
            gates = o3.Irreps([(m.mul, "0e") for m in gated])
            silu = torch.nn.functional.silu
            gate = Gate(scalars, [silu] * len(scalars), gates, [silu] * len(gates), gated)
            mid, instructions = [], []
            for i, (mul, ir1) in enumerate(x):
                for j, (_, ir2) in enumerate(self.sh):
                    for ir3 in ir1 * ir2:
                        if ir3 in out:
                            instructions.append((i, j, len(mid), "uvu", True))
                            mid.append((mul, ir3))
            mid, p, _ = o3.Irreps(mid).sort()
            instructions = [(i, j, p[k], mode, t) for i, j, k, mode, t in instructions]
            product = o3.TensorProduct(
                x, self.sh, mid, instructions, shared_weights=False, internal_weights=False
            )
            if self_connection == "linear":
                intro = o3.Linear(x, gate.irreps_in)
            else:
                intro = o3.FullyConnectedTensorProduct(x, "3x0e", gate.irreps_in)
            net = FullyConnectedNet([3, 5, product.weight_numel], silu)
            modules = [
                intro,
                o3.Linear(x, x),
                product,
                net,
                o3.Linear(mid.simplify(), gate.irreps_in),
            ]
            self.parts.append(torch.nn.ModuleList([*modules, gate]))
        self.hidden, self.last = o3.Linear("4x0e", "2x0e"), o3.Linear("2x0e", "1x0e")

    def forward(self, species, edge_index, vectors):
        """Sum of energies."""
        one_hot = torch.nn.functional.one_hot(species, 3).to(vectors.dtype)
        r = vectors.norm(dim=1, keepdim=True)
        u = r / CUTOFF
        cut = 1 - 28 * u**6 + 48 * u**7 - 21 * u**8
        feats = 2 / CUTOFF * torch.sin(self.coeffs * r) / r * cut
        y = o3.spherical_harmonics(self.sh, vectors, True, "component") if self.parity else (
            o3.SphericalHarmonics(self.sh, True, "component", irreps_in="1e")(vectors)
        )  # fmt: skip
        x = self.embed(one_hot)
        for intro, up, product, net, down, gate in self.parts:
            sc = intro(x) if self.kind == "linear" else intro(x, one_hot)
            message = product(up(x)[edge_index[1]], y, net(feats))
            total = torch.zeros(len(species), message.shape[1], dtype=x.dtype)
            total = total.index_add(0, edge_index[0], message) / 3.5
            x = gate(down(total) + sc)
        return (self.last(self.hidden(x)) * 1.7 + self.shift[species, None]).sum()

    shift = torch.tensor([-5.0, -1.0, -3.0], dtype=torch.float64)

    def checkpoint(self) -> dict:
        """What SevenNet would have saved."""
        state = {
            "edge_embedding.basis_function.coeffs": self.coeffs.data,
            "onehot_to_feature_x.linear.weight": self.embed.weight.data,
            "reduce_input_to_hidden.linear.weight": self.hidden.weight.data,
            "reduce_hidden_to_energy.linear.weight": self.last.weight.data,
            "rescale_atomic_energy.shift": self.shift,
            "rescale_atomic_energy.scale": torch.full((3,), 1.7, dtype=torch.float64),
        }
        for n, (intro, up, product, net, down, _) in enumerate(self.parts):
            kind = "linear" if self.kind == "linear" else "fc_tensor_product"
            state[f"{n} self connection intro.{kind}.weight"] = intro.weight.data
            state[f"{n}_self_interaction_1.linear.weight"] = up.weight.data
            state[f"{n}_self_interaction_2.linear.weight"] = down.weight.data
            state[f"{n}_convolution.denumerator"] = torch.tensor([3.5], dtype=torch.float64)
            for i in range(2):
                weight = getattr(net, f"layer{i}").weight.data
                state[f"{n}_convolution.weight_nn.layer{i}.weight"] = weight
            for name, value in product.named_buffers():
                if "_w3j_" in name:
                    key = f"{n}_convolution.convolution._compiled_main_left_right."
                    state[key + name.split(".")[-1]] = value
        config = {
            "version": "0.9.2", "interaction_type": "nequip", "act_radial": "silu",
            "act_scalar": {"e": "silu", "o": "tanh"}, "act_gate": {"e": "silu", "o": "tanh"},
            "_normalize_sph": True, "readout_as_fcn": False, "use_bias_in_linear": False,
            "self_connection_type": self.kind, "num_convolution_layer": 2,
            "is_parity": self.parity, "_number_of_species": 3, "_type_map": TYPE_MAP,
            "cutoff": CUTOFF, "irreps_manual": [str(i) for i in self.irreps], "lmax": 2,
            "lmax_edge": -1, "radial_basis": {"bessel_basis_num": 3},
            "weight_nn_hidden_neurons": [5], "channel": 4, "scale": np.float64(1.7),
            "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6},
        }  # fmt: skip
        return {"model_state_dict": state, "config": config}
