// First and second derivatives of the ops, for torch's autograd.
#pragma once
#include <ATen/ops/add.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include "conv_cpu.h"
#include "typed.h"

namespace tpcalc {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

inline Tensor call_conv(const Tensor& h, const Tensor& y, const Tensor& w, const variable_list& t,
                 int64_t num_receivers, int64_t out_dim) {
  static const auto op = typed<decltype(conv)>("tpcalc::conv");
  return op.call(h, y, w, t[0], t[1], t[2], t[3], t[4], num_receivers, out_dim);
}
inline Three call_bwd(const Tensor& g, const Tensor& h, const Tensor& y, const Tensor& w,
               const variable_list& t, Need need) {
  static const auto op = typed<decltype(conv_bwd)>("tpcalc::conv_bwd");
  return op.call(g, h, y, w, t[0], t[1], t[2], t[3], t[4], need);
}
// Whether autograd has to remember a call with these inputs; its bookkeeping costs as much as
// the convolution of a small molecule. Tangents of forward-mode differentiation count: torch
// refuses them there, and would lose them otherwise
template <class... T> bool tracked(const T&... inputs) {
  return (at::GradMode::is_enabled() && (inputs.requires_grad() || ...)) ||
         (inputs._fw_grad(0).defined() || ...);
}
inline Tensor plus(const Tensor& a, const Tensor& b) { return a.defined() ? at::add(a, b) : b; }

// The derivatives of conv_bwd by the two ops themselves (conv is linear in h, y and w), which
// can be differentiated again
inline std::array<Tensor, 4> double_bwd_by_ops(const Tensor& g, const Tensor& h, const Tensor& y,
                                        const Tensor& w, const variable_list& t,
                                        const variable_list& d) {
  const int64_t n = g.size(0), out_dim = g.size(1);
  Tensor rg, rh, ry, rw;
  if (d[0].defined()) {
    rg = call_conv(d[0], y, w, t, n, out_dim);
    const auto r = call_bwd(g, d[0], y, w, t, {false, true, true});
    ry = std::get<1>(r), rw = std::get<2>(r);
  }
  if (d[1].defined()) {
    rg = plus(rg, call_conv(h, d[1], w, t, n, out_dim));
    const auto r = call_bwd(g, h, d[1], w, t, {true, false, true});
    rh = std::get<0>(r), rw = plus(rw, std::get<2>(r));
  }
  if (d[2].defined()) {
    rg = plus(rg, call_conv(h, y, d[2], t, n, out_dim));
    const auto r = call_bwd(g, h, y, d[2], t, {true, true, false});
    rh = plus(rh, std::get<0>(r)), ry = plus(ry, std::get<1>(r));
  }
  return {rg, rh, ry, rw};
}

inline Tensor call_radial_table(const Tensor& r, const Tensor& kind, const Tensor& table,
                                double step, int64_t order) {
  static const auto op = typed<decltype(radial_table)>("tpcalc::radial_table");
  return op.call(r, kind, table, step, order);
}

inline Tensor call_conv_radial(const Tensor& h, const Tensor& y, const Tensor& r,
                               const Tensor& kind, const Tensor& table, double step,
                               const variable_list& t, int64_t num_receivers, int64_t out_dim) {
  static const auto op = typed<decltype(conv_radial)>("tpcalc::conv_radial");
  return op.call(h, y, r, kind, table, step, t[0], t[1], t[2], t[3], t[4], num_receivers, out_dim);
}
inline Three call_conv_radial_bwd(const Tensor& g, const Tensor& h, const Tensor& y,
                                  const Tensor& r, const Tensor& kind, const Tensor& table,
                                  double step, const variable_list& t, Need need) {
  static const auto op = typed<decltype(conv_radial_bwd)>("tpcalc::conv_radial_bwd");
  return op.call(g, h, y, r, kind, table, step, t[0], t[1], t[2], t[3], t[4], need);
}

struct ConvBackward : Function<ConvBackward> {
  static variable_list forward(AutogradContext* ctx, const Tensor& g, const Tensor& h,
                               const Tensor& y, const Tensor& w, const Tensor& senders,
                               const Tensor& receivers, TABLES, bool need_h, bool need_y,
                               bool need_w) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({g, h, y, w, senders, receivers, paths, couplings, coef});
    ctx->set_materialize_grads(false);
    const auto [gh, gy, gw] = call_bwd(g, h, y, w, {senders, receivers, paths, couplings, coef},
                                       {need_h, need_y, need_w});
    return {gh, gy, gw};
  }
  static variable_list backward(AutogradContext* ctx, variable_list d) {
    const auto s = ctx->get_saved_variables();
    const variable_list t(s.begin() + 4, s.end());
    const bool again = at::GradMode::is_enabled();
    std::array<Tensor, 4> r;
    if (d[0].defined() || d[1].defined() || d[2].defined()) {
      r = again || !s[1].is_cpu()
              ? double_bwd_by_ops(s[0], s[1], s[2], s[3], t, d)
              : conv_double_bwd(s[0], s[1], s[2], s[3], t[0], t[1], t[2], t[3], t[4], d[0], d[1],
                                d[2]);
    }
    variable_list grads(12);
    std::copy(r.begin(), r.end(), grads.begin());
    return grads;
  }
};

struct Conv : Function<Conv> {
  static Tensor forward(AutogradContext* ctx, const Tensor& h, const Tensor& y, const Tensor& w,
                        const Tensor& senders, const Tensor& receivers, TABLES,
                        int64_t num_receivers, int64_t out_dim) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({h, y, w, senders, receivers, paths, couplings, coef});
    return call_conv(h, y, w, {senders, receivers, paths, couplings, coef}, num_receivers,
                     out_dim);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const Need need = {ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                       ctx->needs_input_grad(2)};
    const auto [gh, gy, gw] =
        call_bwd(g[0], s[0], s[1], s[2], variable_list(s.begin() + 3, s.end()), need);
    variable_list grads(10);
    if (need[0]) grads[0] = gh;
    if (need[1]) grads[1] = gy;
    if (need[2]) grads[2] = gw;
    return grads;
  }
};

Tensor conv_autograd(const Tensor& h, const Tensor& y, const Tensor& w, const Tensor& senders,
                     const Tensor& receivers, TABLES, int64_t num_receivers, int64_t out_dim) {
  if (!tracked(h, y, w)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return call_conv(h, y, w, {senders, receivers, paths, couplings, coef}, num_receivers, out_dim);
  }
  return Conv::apply(h, y, w, senders, receivers, paths, couplings, coef, num_receivers, out_dim);
}
Three conv_bwd_autograd(const Tensor& g, const Tensor& h, const Tensor& y, const Tensor& w,
                        const Tensor& senders, const Tensor& receivers, TABLES, Need need) {
  if (!tracked(g, h, y, w)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return call_bwd(g, h, y, w, {senders, receivers, paths, couplings, coef}, need);
  }
  const auto r = ConvBackward::apply(g, h, y, w, senders, receivers, paths, couplings, coef,
                                     need[0], need[1], need[2]);
  return {r[0], r[1], r[2]};
}

struct RadialTable : Function<RadialTable> {
  static Tensor forward(AutogradContext* ctx, const Tensor& r, const Tensor& kind,
                        const Tensor& table, double step, int64_t order) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({r, kind, table});
    ctx->saved_data["step"] = step;
    ctx->saved_data["order"] = order;
    return call_radial_table(r, kind, table, step, order);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const int64_t order = ctx->saved_data["order"].toInt() + 1;
    const double step = ctx->saved_data["step"].toDouble();
    variable_list grads(5);
    grads[0] = at::sum(at::mul(g[0], call_radial_table(s[0], s[1], s[2], step, order)), 1);
    return grads;
  }
};

struct ConvRadial : Function<ConvRadial> {
  static Tensor forward(AutogradContext* ctx, const Tensor& h, const Tensor& y, const Tensor& r,
                        const Tensor& kind, const Tensor& table, double step,
                        const Tensor& senders, const Tensor& receivers, TABLES,
                        int64_t num_receivers, int64_t out_dim) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({h, y, r, kind, table, senders, receivers, paths, couplings, coef});
    ctx->saved_data["step"] = step;
    return call_conv_radial(h, y, r, kind, table, step,
                            {senders, receivers, paths, couplings, coef}, num_receivers, out_dim);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const double step = ctx->saved_data["step"].toDouble();
    const Need need = {ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                       ctx->needs_input_grad(2)};
    Tensor gh, gy, gr;
    if (at::GradMode::is_enabled()) {  // to be differentiated again: by ops that can be
      const Tensor w = call_radial_table(s[2], s[3], s[4], step, 0);
      std::tie(gh, gy, gr) =
          call_bwd(g[0], s[0], s[1], w, variable_list(s.begin() + 5, s.end()), need);
      if (need[2])
        gr = at::sum(at::mul(gr, call_radial_table(s[2], s[3], s[4], step, 1)), 1);
    } else {
      at::AutoDispatchBelowADInplaceOrView guard;
      std::tie(gh, gy, gr) = call_conv_radial_bwd(g[0], s[0], s[1], s[2], s[3], s[4], step,
                                                  variable_list(s.begin() + 5, s.end()), need);
    }
    variable_list grads(13);
    if (need[0]) grads[0] = gh;
    if (need[1]) grads[1] = gy;
    if (need[2]) grads[2] = gr;
    return grads;
  }
};

Tensor radial_table_autograd(const Tensor& r, const Tensor& kind, const Tensor& table,
                             double step, int64_t order) {
  return RadialTable::apply(r, kind, table, step, order);
}
Tensor conv_radial_autograd(const Tensor& h, const Tensor& y, const Tensor& r, const Tensor& kind,
                            const Tensor& table, double step, const Tensor& senders,
                            const Tensor& receivers, TABLES, int64_t num_receivers,
                            int64_t out_dim) {
  return ConvRadial::apply(h, y, r, kind, table, step, senders, receivers, paths, couplings, coef,
                           num_receivers, out_dim);
}

}  // namespace
}  // namespace tpcalc
