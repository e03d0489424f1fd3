"""Clebsch-Gordan product as one batched matrix product per irrep of the first operand."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError
from tpcalc.tensor_products.base import Convolution, HarmonicsBasis
from tpcalc.tensor_products.cg.reference import CgReference
from tpcalc.tensor_products.columns import join_columns, split_columns


class CgGrouped(CgReference):
    """All paths that start at the same irrep of x are rows of one matrix M_ri = sum_j C_rij y_j.

    z_r = w_path(r) (M x)_r: the couplings are summed free of channels, then a few large
    products do the work. M depends on geometry alone, so layers with the same irreps share it.
    Needs a one-channel second operand.
    """

    places = ("convolution",)

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        if not self.uvu:
            raise InputError(
                f"cg/grouped sums over a one-channel second operand; {self.irreps_in2} has "
                f"{self.irreps_in2[0].mul} channels: use cg/sparse or cg/reference"
            )
        self._make_tables()

    @torch.jit.unused
    def _make_tables(self) -> None:
        """Group the paths by irrep of x; `table` [d2, sum of rows x d1] makes M from y."""
        starts, start = [], 0
        for _, _, d1, d2, d3, _, _ in self.rows:
            starts.append(start)
            start += d1 * d2 * d3
        out_slices = self.irreps_out.slices()
        self.groups: list[list[int]] = []  # rows, 2l+1, channels
        self.x_widths: list[int] = [mul * ir.dim for mul, ir in self.irreps_in1]
        self.used: list[bool] = []
        self.members: list[list[int]] = []  # paths of each group
        self.sizes: list[list[int]] = []  # their 2 l3 + 1
        tables, out_columns = [], []
        for i1, (mul, ir) in enumerate(self.irreps_in1):
            members = [n for n, p in enumerate(self.paths) if p.in1 == i1]
            self.used.append(len(members) > 0)
            if not members:
                continue
            channels = torch.arange(mul)
            for n in members:
                path, (_, y0, d1, d2, d3, _, _) = self.paths[n], self.rows[n]
                c = self.couplings[starts[n] : starts[n] + d1 * d2 * d3].view(d1, d2, d3)
                table = torch.zeros(self.irreps_in2.dim, d3, d1, dtype=torch.float64)
                table[y0 : y0 + d2] = c.permute(1, 2, 0)
                tables.append(table.flatten(1))
                block = out_slices[path.out]
                width = (block.stop - block.start) // d3
                k = torch.arange(d3)[:, None] * width
                out_columns.append((block.start + k + path.offset_out + channels).flatten())
            self.members.append(members)
            self.sizes.append([self.rows[n][4] for n in members])
            self.groups.append([sum(self.rows[n][4] for n in members), ir.dim, mul])
        self.register_buffer("table", torch.cat(tables, 1), persistent=False)
        order = torch.cat(out_columns).argsort()  # canonical column -> column made here
        self.register_buffer("order", order, persistent=False)
        self.matrix_widths: list[int] = [rows * dim for rows, dim, _ in self.groups]
        self.weight_widths: list[int] = [p.mul for p in self.paths]

    def matrices(self, y: torch.Tensor) -> torch.Tensor:
        """M of every group, flattened: [..., in2] -> [..., sum of rows x (2l+1)]."""
        return y.matmul(self.table.to(y.dtype))

    def messages(self, x: torch.Tensor, m: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """[..., out], columns in the order of the groups."""
        x_parts = split_columns(x, self.x_widths)
        m_parts = split_columns(m, self.matrix_widths)
        w_parts = split_columns(w, self.weight_widths)
        parts: list[torch.Tensor] = []
        n = 0
        for x_part, used in zip(x_parts, self.used):
            if used:
                rows, dim, mul = self.groups[n]
                matrix = m_parts[n].unflatten(-1, [rows, dim])
                x_part = x_part.unflatten(-1, [dim, mul])
                if dim == 1:
                    z = matrix * x_part  # [..., rows, mul]
                else:
                    z = matrix.matmul(x_part)
                for path, z_path in zip(self.members[n], split_columns(z, self.sizes[n], -2)):
                    parts.append((z_path * w_parts[path].unsqueeze(-2)).flatten(-2))
                n += 1
        return join_columns(parts)

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return self.messages(x, self.matrices(y), w).index_select(-1, self.order)

    def convolution(self) -> Convolution:
        return GroupedConvolution(self)


class GroupedBasis(torch.nn.Module):
    """The matrices M of the edges: [E, 3] -> [E, sum of rows x (2l+1)]."""

    def __init__(self, tensor_product: CgGrouped):
        super().__init__()
        paths = [(p.in1, p.in2, p.l1, p.l2, p.l3) for p in tensor_product.paths]
        self.spec = ("grouped", str(paths), str(tensor_product.irreps_in2))
        self.harmonics = HarmonicsBasis(tensor_product.irreps_in2)
        self.register_buffer("table", tensor_product.table.clone(), persistent=False)

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        return self.harmonics(edge_vectors).matmul(self.table.to(edge_vectors.dtype))


class GroupedConvolution(Convolution):
    """Gather, a product a group, weigh, sum; columns are put in order on the nodes."""

    def __init__(self, tensor_product: CgGrouped):
        super().__init__(tensor_product, GroupedBasis(tensor_product))

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
        x = node_feats.index_select(0, senders)  # [E, in]
        messages = self.tensor_product.messages(x, edge_basis, edge_weights)  # [E, out]
        out = torch.zeros(n, self.out_dim, dtype=messages.dtype, device=messages.device)
        return out.index_add(0, receivers, messages).index_select(1, self.tensor_product.order)
