// tpcalc::harmonics: spherical harmonics of edge vectors as one op.
#pragma once
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>

#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

// `steps`: the matrices [3 (2l - 1), 2l + 1] that make Y_l from Y_{l-1} and Y_1, l = 2..lmax
inline Tensor harmonics_by_ops(const Tensor& vectors, const Tensor& steps, int64_t lmax) {
  const Tensor length2 = at::sum(at::mul(vectors, vectors), 1, true), one = at::ones_like(length2);
  const Tensor safe = at::where(length2.gt(0), length2, one);
  const Tensor y1 = at::mul(vectors, at::mul(at::rsqrt(safe), 1.7320508075688772));
  variable_list parts{one};
  if (lmax > 0) parts.push_back(y1);
  Tensor y = y1;
  int64_t start = 0;
  for (int64_t l = 2; l <= lmax; l++) {
    const int64_t rows = 3 * (2 * l - 1), columns = 2 * l + 1;
    const Tensor step = steps.narrow(0, start, rows * columns).view({rows, columns});
    start += rows * columns;
    y = at::matmul(at::mul(y.unsqueeze(2), y1.unsqueeze(1)).flatten(1), step);
    parts.push_back(y);
  }
  return at::cat(parts, 1);
}

// The non-zeros of the matrices, degree by degree
struct HarmonicsTask {
  std::vector<HarmonicsEntry> entries;
  std::vector<int64_t> first;
  Harmonics t{};

  HarmonicsTask(const Tensor& vectors, const Tensor& steps, int64_t lmax) {
    check_matrix("harmonics", "edge vectors", vectors, 3);
    int64_t size = 0;
    for (int64_t l = 2; l <= lmax; l++) size += 3 * (2 * l - 1) * (2 * l + 1);
    TORCH_CHECK(lmax >= 0 && steps.dim() == 1 && steps.numel() == size && steps.is_cpu(),
                "tpcalc::harmonics: degree ", lmax, " takes ", size, " coefficients, got ",
                steps.sizes());
    const Tensor table = steps.to(at::kDouble).contiguous();
    const double* c = table.data_ptr<double>();
    first.assign(lmax + 2, 0);
    for (int64_t l = 2; l <= lmax; l++) {
      for (int32_t i = 0; i < 2 * l - 1; i++)
        for (int32_t j = 0; j < 3; j++)
          for (int32_t k = 0; k < 2 * l + 1; k++, c++)
            if (std::abs(*c) > 1e-12) entries.push_back({i, j, k, *c});
      first[l + 1] = static_cast<int64_t>(entries.size());
    }
    t.vectors = vectors.data_ptr(), t.lmax = lmax;
    t.entries = entries.data(), t.first = first.data();
  }
  int64_t flops() const { return 4 * static_cast<int64_t>(entries.size()) + 100; }
};

Tensor harmonics(const Tensor& vectors_, const Tensor& steps, int64_t lmax) {
  const Tensor vectors = vectors_.contiguous();
  HarmonicsTask task(vectors, steps, lmax);
  Tensor y = at::empty({vectors.size(0), (lmax + 1) * (lmax + 1)}, vectors.options());
  task.t.y = y.data_ptr();
  const auto kernel = step_kernels().harmonics[vectors.scalar_type() == at::kDouble];
  over_rows(vectors.size(0), task.flops(), [&](int64_t a, int64_t b) { kernel(task.t, a, b); });
  return y;
}

Tensor harmonics_bwd(const Tensor& g_, const Tensor& vectors_, const Tensor& steps, int64_t lmax) {
  const Tensor vectors = vectors_.contiguous(), g = g_.contiguous();
  HarmonicsTask task(vectors, steps, lmax);
  check_matrix("harmonics_bwd", "the gradient", g, (lmax + 1) * (lmax + 1));
  TORCH_CHECK(g.size(0) == vectors.size(0) && g.scalar_type() == vectors.scalar_type(),
              "tpcalc::harmonics_bwd: gradient ", g.sizes(), " ", g.scalar_type(), " of vectors ",
              vectors.sizes(), " ", vectors.scalar_type());
  Tensor gv = at::empty_like(vectors);
  task.t.g = g.data_ptr(), task.t.gv = gv.data_ptr();
  const auto kernel = step_kernels().harmonics_backward[vectors.scalar_type() == at::kDouble];
  over_rows(vectors.size(0), 2 * task.flops(), [&](int64_t a, int64_t b) { kernel(task.t, a, b); });
  return gv;
}

Tensor harmonics_meta(const Tensor& vectors, const Tensor&, int64_t lmax) {
  return at::empty({vectors.size(0), (lmax + 1) * (lmax + 1)}, vectors.options());
}
Tensor harmonics_bwd_meta(const Tensor&, const Tensor& vectors, const Tensor&, int64_t) {
  return at::empty_like(vectors);
}

struct HarmonicsFunction : Function<HarmonicsFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& vectors, const Tensor& steps,
                        int64_t lmax) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({vectors, steps});
    ctx->saved_data["lmax"] = lmax;
    static const auto op = typed<decltype(harmonics)>("tpcalc::harmonics");
    return op.call(vectors, steps, lmax);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const int64_t lmax = ctx->saved_data["lmax"].toInt();
    if (at::GradMode::is_enabled()) {
      const auto by_ops = [&](const variable_list& in) {
        return harmonics_by_ops(in[0], s[1], lmax);
      };
      return {differentiable_gradients({s[0]}, g[0], by_ops)[0], Tensor(), Tensor()};
    }
    static const auto op = typed<decltype(harmonics_bwd)>("tpcalc::harmonics_bwd");
    return {op.call(g[0], s[0], s[1], lmax), Tensor(), Tensor()};
  }
};

Tensor harmonics_autograd(const Tensor& vectors, const Tensor& steps, int64_t lmax) {
  return HarmonicsFunction::apply(vectors, steps, lmax);
}

}  // namespace
}  // namespace tpcalc
