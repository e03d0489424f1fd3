// The ops on the CPU.
#pragma once
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include "conv_plan.h"
#include "edges.h"

namespace tpcalc {
namespace {

inline Tensor run_conv(const Tensor& h_, const Tensor& y_, const Weights& w,
                       const Tensor& senders_, const Tensor& receivers_, TABLES,
                       int64_t num_receivers, int64_t out_dim) {
  check_inputs(h_, y_, w.by_edge(), senders_, receivers_, w.is_spline() ? 1 : 2);
  TORCH_CHECK(num_receivers >= 0 && out_dim >= 0, "tpcalc::conv: ", num_receivers,
              " receivers of ", out_dim, " columns asked for");
  const Tensor h = h_.contiguous(), y = y_.contiguous();
  const Tensor senders = senders_.contiguous(), receivers = receivers_.contiguous();
  const auto plan = plan_for(paths, couplings, coef, h.scalar_type(),
                             {h.size(1), y.size(1), w.columns(), out_dim});
  const SortedEdges edges(senders, receivers, h.size(0), num_receivers);
  Tensor out = plan->zero_out ? at::zeros({num_receivers, out_dim}, h.options())
                              : at::empty({num_receivers, out_dim}, h.options());
  const Forward f{h.data_ptr(), y.data_ptr(), w.w_data(),  out.data_ptr(), h.size(1),
                  y.size(1),    w.columns(),  out_dim,     w.radial()};
  const auto kernel = plan->kernels->forward[h.scalar_type() == at::kDouble];
  over_receivers(edges, num_parts(edges), [&](int, int64_t first, int64_t last) {
    kernel(plan->plan, edges.graph(first, last), f);
  });
  return out;
}

// Gradients of h, y and of w or r; without rows where not needed
inline Three run_conv_bwd(const Tensor& g_, const Tensor& h_, const Tensor& y_, const Weights& w,
                          const Tensor& senders_, const Tensor& receivers_, TABLES, Need need) {
  check_inputs(h_, y_, w.by_edge(), senders_, receivers_, w.is_spline() ? 1 : 2);
  TORCH_CHECK(g_.dim() == 2 && g_.scalar_type() == h_.scalar_type() && g_.is_cpu(),
              "tpcalc::conv_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(),
              " does not fit features of ", h_.scalar_type());
  const Tensor g = g_.contiguous(), h = h_.contiguous(), y = y_.contiguous();
  const Tensor senders = senders_.contiguous(), receivers = receivers_.contiguous();
  const auto plan = plan_for(paths, couplings, coef, h.scalar_type(),
                             {h.size(1), y.size(1), w.columns(), g.size(1)});
  const SortedEdges edges(senders, receivers, h.size(0), g.size(0));
  const int parts = num_parts(edges);
  Partial gh(need[0] ? h : at::empty({0, 0}, h.options()), need[0] ? parts : 1);
  const Tensor gy = need[1] ? at::empty_like(y) : at::empty({0}, h.options());
  const Tensor gw = !need[2] ? at::empty({0}, h.options())
                    : plan->zero_w && !w.is_spline() ? at::zeros_like(w.w)
                                                     : at::empty_like(w.by_edge());
  const auto kernel = plan->kernels->backward[h.scalar_type() == at::kDouble];
  over_receivers(edges, parts, [&](int q, int64_t first, int64_t last) {
    void* third = need[2] ? gw.data_ptr() : nullptr;
    const Backward b{g.data_ptr(), h.data_ptr(), y.data_ptr(), w.w_data(),
                     need[0] ? gh.of(q) : nullptr, need[1] ? gy.data_ptr() : nullptr,
                     w.is_spline() ? nullptr : third, w.is_spline() ? third : nullptr,
                     h.size(1), y.size(1), w.columns(), g.size(1), w.radial()};
    kernel(plan->plan, edges.graph(first, last), b);
  });
  return {gh.sum(), gy, gw};
}

inline Weights splines(const Tensor& r, const Tensor& kind, const Tensor& table, double step) {
  return Weights::splines(r, kind, table, step);
}

#include "conv_entries.inc"

// The order-th derivative of the splined weights: [edges, columns]
Tensor radial_table(const Tensor& r, const Tensor& kind, const Tensor& table, double step,
                    int64_t order) {
  const Weights w = splines(r, kind, table, step);
  TORCH_CHECK(order >= 0 && order <= 3, "tpcalc::radial_table: derivative of order ", order,
              "; cubic splines have orders 0 to 3");
  Tensor out = at::empty({r.size(0), w.columns()}, r.options());
  widest_kernels().radial[r.scalar_type() == at::kDouble](
      w.radial(), r.size(0), static_cast<int>(order), w.columns(), out.data_ptr());
  return out;
}

// A tangent, or one row of zeros where there is none
struct Tangent {
  Tensor data;
  int64_t step;
  Tangent(const Tensor& given, const Tensor& like)
      : data(given.defined() ? given.contiguous() : at::zeros({like.size(1)}, like.options())),
        step(given.defined() ? like.size(1) : 0) {}
};

// Gradients of g, h, y, w for tangents of conv_bwd's three results
inline std::array<Tensor, 4> conv_double_bwd(const Tensor& g_, const Tensor& h_, const Tensor& y_,
                                      const Tensor& w_, const Tensor& senders_,
                                      const Tensor& receivers_, TABLES, const Tensor& dh_,
                                      const Tensor& dy_, const Tensor& dw_) {
  const Tensor g = g_.contiguous(), h = h_.contiguous(), y = y_.contiguous(), w = w_.contiguous();
  const Tensor senders = senders_.contiguous(), receivers = receivers_.contiguous();
  const Tangent dh(dh_, h), dy(dy_, y), dw(dw_, w);
  const auto plan = plan_for(paths, couplings, coef, h.scalar_type(),
                             {h.size(1), y.size(1), w.size(1), g.size(1)});
  const SortedEdges edges(senders, receivers, h.size(0), g.size(0));
  const int parts = num_parts(edges);
  Tensor rg = at::zeros_like(g), ry = at::empty_like(y);
  Tensor rw = plan->zero_w ? at::zeros_like(w) : at::empty_like(w);
  Partial rh(h, parts);
  const auto kernel = plan->kernels->double_backward[h.scalar_type() == at::kDouble];
  over_receivers(edges, parts, [&](int q, int64_t first, int64_t last) {
    const DoubleBackward b{g.data_ptr(), h.data_ptr(), y.data_ptr(), w.data_ptr(),
                           dh.data.data_ptr(), dy.data.data_ptr(), dw.data.data_ptr(), dh.step,
                           dy.step, dw.step, rg.data_ptr(), rh.of(q), ry.data_ptr(),
                           rw.data_ptr(), h.size(1), y.size(1), w.size(1), g.size(1)};
    kernel(plan->plan, edges.graph(first, last), b);
  });
  return {rg, rh.sum(), ry, rw};
}

}  // namespace
}  // namespace tpcalc
