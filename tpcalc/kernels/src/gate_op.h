// tpcalc::gate: the gated non-linearity as one op.
#pragma once
#include <ATen/ops/cat.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>

#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

// sizes: odd scalars, even scalars, then (channels, components) of each gated block
inline Gate gate_of(at::IntArrayRef sizes, double silu_norm, double tanh_norm) {
  TORCH_CHECK(sizes.size() >= 2 && sizes.size() % 2 == 0, "tpcalc::gate: ", sizes.size(),
              " sizes; two, and two for each gated block, are needed");
  for (int64_t s : sizes) TORCH_CHECK(s >= 0, "tpcalc::gate: size ", s, " is negative");
  Gate t{};
  t.odd = sizes[0], t.even = sizes[1], t.silu = silu_norm, t.tanh = tanh_norm;
  t.blocks = sizes.data() + 2, t.num_blocks = static_cast<int64_t>(sizes.size()) / 2 - 1;
  int64_t gated = 0;
  for (int64_t b = 0; b < t.num_blocks; b++) {
    t.gates += t.blocks[2 * b];
    gated += t.blocks[2 * b] * t.blocks[2 * b + 1];
  }
  t.in = t.odd + t.even + t.gates + gated, t.out = t.odd + t.even + gated;
  return t;
}

inline Tensor gate_by_ops(const Tensor& x, at::IntArrayRef sizes, double silu, double tanh) {
  const Gate t = gate_of(sizes, silu, tanh);
  const int64_t n = x.size(0), wide = t.even + t.gates;
  const Tensor scalars = at::mul(at::silu(x.narrow(1, t.odd, wide)), silu);
  variable_list parts{at::mul(at::tanh(x.narrow(1, 0, t.odd)), tanh), scalars.narrow(1, 0, t.even)};
  int64_t from = t.odd + wide, gate = t.even;
  for (int64_t b = 0; b < t.num_blocks; b++) {
    const int64_t mul = t.blocks[2 * b], dim = t.blocks[2 * b + 1];
    const Tensor block = x.narrow(1, from, mul * dim).reshape({n, dim, mul});
    parts.push_back(at::mul(block, scalars.narrow(1, gate, mul).unsqueeze(1)).reshape({n, dim * mul}));
    from += mul * dim, gate += mul;
  }
  return at::cat(parts, 1);
}

Tensor gate(const Tensor& x_, at::IntArrayRef sizes, double silu, double tanh) {
  Gate t = gate_of(sizes, silu, tanh);
  check_matrix("gate", "features", x_, t.in);
  const Tensor x = x_.contiguous();
  Tensor y = at::empty({x.size(0), t.out}, x.options());
  t.x = x.data_ptr(), t.y = y.data_ptr();
  const auto kernel = step_kernels().gate[x.scalar_type() == at::kDouble];
  over_rows(x.size(0), 8 * t.in, [&](int64_t a, int64_t b) { kernel(t, a, b); });
  return y;
}

Tensor gate_bwd(const Tensor& g_, const Tensor& x_, at::IntArrayRef sizes, double silu,
                double tanh) {
  Gate t = gate_of(sizes, silu, tanh);
  check_matrix("gate_bwd", "features", x_, t.in);
  check_matrix("gate_bwd", "the gradient", g_, t.out);
  TORCH_CHECK(g_.size(0) == x_.size(0) && g_.scalar_type() == x_.scalar_type(),
              "tpcalc::gate_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(), " of features ",
              x_.sizes(), " ", x_.scalar_type());
  const Tensor g = g_.contiguous(), x = x_.contiguous();
  Tensor gx = at::empty_like(x);
  t.g = g.data_ptr(), t.x = x.data_ptr(), t.gx = gx.data_ptr();
  const auto kernel = step_kernels().gate_backward[x.scalar_type() == at::kDouble];
  over_rows(x.size(0), 8 * t.in, [&](int64_t a, int64_t b) { kernel(t, a, b); });
  return gx;
}

Tensor gate_meta(const Tensor& x, at::IntArrayRef sizes, double silu, double tanh) {
  return at::empty({x.size(0), gate_of(sizes, silu, tanh).out}, x.options());
}
Tensor gate_bwd_meta(const Tensor&, const Tensor& x, at::IntArrayRef, double, double) {
  return at::empty_like(x);
}

struct GateFunction : Function<GateFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, at::IntArrayRef sizes, double silu,
                        double tanh) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    ctx->saved_data["sizes"] = sizes.vec();
    ctx->saved_data["silu"] = silu;
    ctx->saved_data["tanh"] = tanh;
    static const auto op = typed<decltype(gate)>("tpcalc::gate");
    return op.call(x, sizes, silu, tanh);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const Tensor x = ctx->get_saved_variables()[0];
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const double silu = ctx->saved_data["silu"].toDouble(), tanh = ctx->saved_data["tanh"].toDouble();
    if (at::GradMode::is_enabled()) {
      const auto by_ops = [&](const variable_list& in) {
        return gate_by_ops(in[0], sizes, silu, tanh);
      };
      return {differentiable_gradients({x}, g[0], by_ops)[0], Tensor(), Tensor(), Tensor()};
    }
    static const auto op = typed<decltype(gate_bwd)>("tpcalc::gate_bwd");
    return {op.call(g[0], x, sizes, silu, tanh), Tensor(), Tensor(), Tensor()};
  }
};

Tensor gate_autograd(const Tensor& x, at::IntArrayRef sizes, double silu, double tanh) {
  return GateFunction::apply(x, sizes, silu, tanh);
}

}  // namespace
}  // namespace tpcalc
