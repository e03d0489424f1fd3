"""Clebsch-Gordan product as e3nn computes it: what most trained potentials run today."""

from __future__ import annotations

import torch
from e3nn.o3 import TensorProduct as E3nnTensorProduct
from e3nn.o3 import wigner_3j

from tpcalc.o3.layout import ir_mul_index, mul_ir_index
from tpcalc.tensor_products.base import Convolution, TensorProduct
from tpcalc.tensor_products.paths import as_irreps, enumerate_paths


class CgE3nn(TensorProduct):
    """e3nn's generated code (`o3.TensorProduct`, TorchScript-compilable) behind our layout.

    Same weights and numbers as `cg/reference`. The coefficients are kept in float64 whatever
    torch's default dtype is (e3nn alone rounds them to the default dtype when it is built).
    """

    function = "cg"

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2)
        irreps_out = None if irreps_out is None else as_irreps(irreps_out)
        self.paths, self.irreps_out = enumerate_paths(self.irreps_in1, self.irreps_in2, irreps_out)
        self.weight_numel = sum(path.mul for path in self.paths)
        self.product = _e3nn_product(self)
        self.register_buffer("x_index", mul_ir_index(self.irreps_in1), persistent=False)
        self.register_buffer("y_index", mul_ir_index(self.irreps_in2), persistent=False)
        self.register_buffer("out_index", ir_mul_index(self.irreps_out), persistent=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x = x.index_select(-1, self.x_index)  # to mul_ir
        y = y.index_select(-1, self.y_index)
        return self.product(x, y, w).index_select(-1, self.out_index)  # back to ir_mul

    def convolution(self) -> Convolution:
        return CgE3nnConvolution(self)


class CgE3nnConvolution(Convolution):
    """Layouts are changed once per node, not per edge, so that e3nn is timed as itself."""

    def __init__(self, tensor_product: CgE3nn):
        super().__init__(tensor_product)
        self.product = tensor_product.product
        self.register_buffer("x_index", tensor_product.x_index, persistent=False)
        self.register_buffer("out_index", tensor_product.out_index, persistent=False)

    def forward(
        self,
        node_feats: torch.Tensor,
        edge_basis: torch.Tensor,
        edge_weights: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        num_receivers: int | None = None,
    ) -> torch.Tensor:
        n = node_feats.shape[0] if num_receivers is None else num_receivers
        x = node_feats.index_select(1, self.x_index).index_select(0, senders)
        messages = self.product(x, edge_basis, edge_weights)
        out = torch.zeros(n, self.out_dim, dtype=messages.dtype, device=messages.device)
        return out.index_add(0, receivers, messages).index_select(1, self.out_index)


def _e3nn_product(tp: TensorProduct) -> torch.fx.GraphModule:
    """e3nn's code graph with float64 coefficients that follow the dtype of the input."""
    mode = tp.channel_mode
    made = E3nnTensorProduct(
        tp.irreps_in1,
        tp.irreps_in2,
        [(path.mul, tp.irreps_out[path.out].ir) for path in tp.paths],
        [(path.in1, path.in2, n, mode, True) for n, path in enumerate(tp.paths)],
        shared_weights=False,
        internal_weights=False,
    )
    graph_module = made._compiled_main_left_right
    for name, _ in list(graph_module.named_buffers()):
        l1, l2, l3 = (int(l) for l in name.removeprefix("_w3j_").split("_"))
        graph_module.register_buffer(
            name, wigner_3j(l1, l2, l3, dtype=torch.float64), persistent=False
        )
    graph = graph_module.graph
    operand = next(node for node in graph.nodes if node.op == "placeholder")
    for node in [n for n in graph.nodes if n.op == "get_attr"]:
        with graph.inserting_after(node):
            cast = graph.call_method("to", (node, operand))
        node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
    graph_module.recompile()
    return graph_module
