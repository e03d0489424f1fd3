// tpcalc::mlp: a network without biases, SiLU between its layers, as one op.
#pragma once
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>

#include <cmath>
#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

// By torch's ops: for training, and for derivatives of derivatives
inline Tensor mlp_by_ops(Tensor x, at::TensorList weights, double norm) {
  for (size_t n = 0; n < weights.size(); n++) {
    x = at::matmul(x, at::mul(weights[n], 1 / std::sqrt(double(weights[n].size(0)))));
    if (n + 1 < weights.size()) x = at::mul(at::silu(x), norm);
  }
  return x;
}

// Checked arguments and packed matrices
struct MlpTask {
  Tensor x;
  std::vector<Tensor> packed, transposed;
  std::vector<const void*> pointers, transposed_pointers;
  std::vector<int64_t> sizes;
  int64_t flops = 0;
  Mlp net{};

  MlpTask(const Tensor& x_, at::TensorList weights, double norm, bool backward)
      : x(x_.contiguous()) {
    TORCH_CHECK(!weights.empty(), "tpcalc::mlp: no matrices");
    check_matrix("mlp", "rows", x, weights[0].dim() == 2 ? weights[0].size(0) : 0);
    sizes.push_back(x.size(1));
    for (const Tensor& w : weights) {
      TORCH_CHECK(w.dim() == 2 && w.size(0) == sizes.back() && w.size(0) > 0 && w.size(1) > 0 &&
                      w.scalar_type() == x.scalar_type() && w.is_cpu(),
                  "tpcalc::mlp: a matrix of ", sizes.back(), " rows in the dtype of x (",
                  x.scalar_type(), ") is needed, got ", w.sizes(), " ", w.scalar_type());
      sizes.push_back(w.size(1));
      flops += 2 * w.numel();
      packed.push_back(pack(w, false));
      if (backward) transposed.push_back(pack(w, true));
    }
    for (const Tensor& p : packed) pointers.push_back(p.data_ptr());
    for (const Tensor& p : transposed) transposed_pointers.push_back(p.data_ptr());
    net.x = x.data_ptr(), net.layers = static_cast<int64_t>(weights.size());
    net.sizes = sizes.data(), net.norm = norm;
    net.packed = pointers.data(), net.transposed = transposed_pointers.data();
  }
  static Tensor pack(const Tensor& w_, bool transposed) {
    const Tensor w = w_.contiguous();
    const StepKernels& kernels = step_kernels();
    const int64_t lanes = kernels.vector_bytes / w.element_size();
    const int64_t k = w.size(transposed), n = w.size(!transposed);
    Tensor out = at::empty({k * ((n + lanes - 1) / lanes * lanes)}, w.options());
    kernels.pack[w.scalar_type() == at::kDouble](w.data_ptr(), k, n, transposed, out.data_ptr());
    return out;
  }
  bool is_double() const { return x.scalar_type() == at::kDouble; }
};

Tensor mlp(const Tensor& x, at::TensorList weights, double norm) {
  MlpTask task(x, weights, norm, false);
  Tensor y = at::empty({x.size(0), task.sizes.back()}, x.options());
  task.net.y = y.data_ptr();
  const auto kernel = step_kernels().mlp[task.is_double()];
  over_rows(x.size(0), task.flops, [&](int64_t a, int64_t b) { kernel(task.net, a, b); });
  return y;
}

Tensor mlp_bwd(const Tensor& g_, const Tensor& x, at::TensorList weights, double norm) {
  MlpTask task(x, weights, norm, true);
  check_matrix("mlp_bwd", "the gradient", g_, task.sizes.back());
  TORCH_CHECK(g_.size(0) == x.size(0) && g_.scalar_type() == x.scalar_type(),
              "tpcalc::mlp_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(), " of rows ", x.sizes(),
              " ", x.scalar_type());
  const Tensor g = g_.contiguous();
  Tensor gx = at::empty_like(task.x);
  task.net.g = g.data_ptr(), task.net.gx = gx.data_ptr();
  const auto kernel = step_kernels().mlp_backward[task.is_double()];
  over_rows(x.size(0), 2 * task.flops, [&](int64_t a, int64_t b) { kernel(task.net, a, b); });
  return gx;
}

Tensor mlp_meta(const Tensor& x, at::TensorList weights, double) {
  return at::empty({x.size(0), weights[weights.size() - 1].size(1)}, x.options());
}
Tensor mlp_bwd_meta(const Tensor&, const Tensor& x, at::TensorList, double) {
  return at::empty_like(x);
}

struct MlpFunction : Function<MlpFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, at::TensorList weights,
                        double norm) {
    at::AutoDispatchBelowADInplaceOrView guard;
    variable_list saved{x};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["norm"] = norm;
    static const auto op = typed<decltype(mlp)>("tpcalc::mlp");
    return op.call(x, weights, norm);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const variable_list weights(s.begin() + 1, s.end());
    const double norm = ctx->saved_data["norm"].toDouble();
    variable_list grads(s.size() + 1);
    if (at::GradMode::is_enabled()) {
      grads[0] = differentiable_gradients({s[0]}, g[0], [&] { return mlp_by_ops(s[0], weights, norm); })[0];
      return grads;
    }
    static const auto op = typed<decltype(mlp_bwd)>("tpcalc::mlp_bwd");
    grads[0] = op.call(g[0], s[0], weights, norm);
    return grads;
  }
};

Tensor mlp_autograd(const Tensor& x, at::TensorList weights, double norm) {
  bool trained = false;
  for (const Tensor& w : weights) trained |= w.requires_grad();
  if (trained && at::GradMode::is_enabled()) return mlp_by_ops(x, weights, norm);
  return MlpFunction::apply(x, weights, norm);
}

}  // namespace
}  // namespace tpcalc
