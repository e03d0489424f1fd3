// tpcalc::mlp: a network without biases, SiLU between its layers, as one op.
#pragma once
#include <tuple>

#include "mlp_task.h"

namespace tpcalc {
namespace {

Tensor mlp(const Tensor& x, at::TensorList weights, double norm, const MaybeTensor& envelope) {
  MlpTask task("mlp", x, weights, norm, envelope, false);
  Tensor y = at::empty({x.size(0), task.columns()}, x.options());
  task.forward(0, x.size(0), y.data_ptr());
  return y;
}

std::tuple<Tensor, Tensor> mlp_bwd(const Tensor& g_, const Tensor& x, at::TensorList weights,
                                   double norm, const MaybeTensor& envelope) {
  MlpTask task("mlp_bwd", x, weights, norm, envelope, true);
  check_matrix("mlp_bwd", "the gradient", g_, task.columns());
  TORCH_CHECK(g_.size(0) == x.size(0) && g_.scalar_type() == x.scalar_type(),
              "tpcalc::mlp_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(), " of rows ", x.sizes(),
              " ", x.scalar_type());
  const Tensor g = g_.contiguous();
  Tensor gx = at::empty_like(task.x), genvelope = task.genvelope();
  task.backward(0, x.size(0), g.data_ptr(), gx, genvelope);
  return {gx, genvelope};
}

Tensor mlp_meta(const Tensor& x, at::TensorList weights, double, const MaybeTensor&) {
  return at::empty({x.size(0), weights[weights.size() - 1].size(1)}, x.options());
}
std::tuple<Tensor, Tensor> mlp_bwd_meta(const Tensor&, const Tensor& x, at::TensorList, double,
                                        const MaybeTensor& envelope) {
  return {at::empty_like(x), at::empty({envelope ? x.size(0) : 0, 1}, x.options())};
}

struct MlpFunction : Function<MlpFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const MaybeTensor& envelope,
                        at::TensorList weights, double norm) {
    at::AutoDispatchBelowADInplaceOrView guard;
    variable_list saved{x, envelope.value_or(Tensor())};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["norm"] = norm;
    static const auto op = typed<decltype(mlp)>("tpcalc::mlp");
    return op.call(x, weights, norm, envelope);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const MaybeTensor envelope = s[1].defined() ? MaybeTensor(s[1]) : std::nullopt;
    const variable_list weights(s.begin() + 2, s.end());
    const double norm = ctx->saved_data["norm"].toDouble();
    variable_list grads(s.size() + 1);
    if (at::GradMode::is_enabled()) {
      const variable_list inputs = envelope ? variable_list{s[0], s[1]} : variable_list{s[0]};
      const auto made = differentiable_gradients(inputs, g[0], [&](const variable_list& in) {
        return mlp_by_ops(in[0], weights, norm, envelope ? MaybeTensor(in[1]) : std::nullopt);
      });
      std::copy(made.begin(), made.end(), grads.begin());
      return grads;
    }
    static const auto op = typed<decltype(mlp_bwd)>("tpcalc::mlp_bwd");
    std::tie(grads[0], grads[1]) = op.call(g[0], s[0], weights, norm, envelope);
    if (!envelope) grads[1] = Tensor();
    return grads;
  }
};

Tensor mlp_autograd(const Tensor& x, at::TensorList weights, double norm,
                    const MaybeTensor& envelope) {
  bool trained = false;
  for (const Tensor& w : weights) trained |= w.requires_grad();
  if (trained && at::GradMode::is_enabled()) return mlp_by_ops(x, weights, norm, envelope);
  return MlpFunction::apply(x, envelope, weights, norm);
}

}  // namespace
}  // namespace tpcalc
