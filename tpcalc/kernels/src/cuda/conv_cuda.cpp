// The ops on a GPU. Only torch's device-neutral headers: this compiles against a CPU torch, and
// with TPCALC_EMULATE it takes the place of the CPU's ops, for tests.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "../inputs.h"
#include "binding.h"
#include "device_tables.h"

namespace tpcalc::cuda {
namespace {

// Edges in the order of one end
struct Sorted : SortedBy {
  Tensor other;
  Sorted(const Tensor& ends, const Tensor& other, int64_t nodes)
      : SortedBy(ends, nodes), other(other) {}
  Edges edges() const {
    return {begin.data_ptr<int64_t>(), order.data_ptr<int64_t>(), other.data_ptr<int64_t>(),
            begin.size(0) - 1};
  }
};

// What forward and backward begin with
struct Call {
  c10::DeviceGuard guard;
  Tensor h, y, senders, receivers;
  std::shared_ptr<const DeviceTables> tables;
  bool is_double;
  void* stream;

  Call(const Tensor& h_, const Tensor& y_, const Weights& w, const Tensor& senders_,
       const Tensor& receivers_, TABLES, int64_t num_receivers, int64_t out_dim)
      : guard(h_.device()) {
    check_inputs(h_, y_, w.by_edge(), senders_, receivers_, w.is_spline() ? 1 : 2);
    TORCH_CHECK(num_receivers >= 0 && out_dim >= 0, "tpcalc::conv: ", num_receivers,
                " receivers of ", out_dim, " columns asked for");
    h = h_.contiguous(), y = y_.contiguous();
    senders = senders_.contiguous(), receivers = receivers_.contiguous();
    check_range(senders, h.size(0), "tpcalc::conv: senders lie outside of the nodes that send");
    check_range(receivers, num_receivers,
                "tpcalc::conv: receivers lie outside of the nodes to receive");
    tables = device_tables(paths, couplings, coef, h.scalar_type(), h.device(),
                           {h.size(1), y.size(1), w.columns(), out_dim});
    is_double = h.scalar_type() == at::kDouble;
    stream = stream_of(h);
  }
};

Tensor run_conv(const Tensor& h, const Tensor& y, const Weights& w, const Tensor& senders,
                const Tensor& receivers, TABLES, int64_t num_receivers, int64_t out_dim) {
  const Call c(h, y, w, senders, receivers, paths, couplings, coef, num_receivers, out_dim);
  const Sorted by_receiver(c.receivers, c.senders, num_receivers);
  Tensor out = c.tables->plan->zero_out ? at::zeros({num_receivers, out_dim}, c.h.options())
                                        : at::empty({num_receivers, out_dim}, c.h.options());
  const Gather f{c.h.data_ptr(), c.y.data_ptr(), w.w_data(), out.data_ptr(), c.h.size(1),
                 c.y.size(1),    w.columns(),    out_dim,    w.radial()};
  require(gather(c.is_double, false, c.tables->table, by_receiver.edges(), f, c.stream));
  return out;
}

Three run_conv_bwd(const Tensor& g_, const Tensor& h, const Tensor& y, const Weights& w,
                   const Tensor& senders, const Tensor& receivers, TABLES, Need need) {
  TORCH_CHECK(g_.dim() == 2 && g_.scalar_type() == h.scalar_type() && g_.device() == h.device(),
              "tpcalc::conv_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(), " on ",
              g_.device(), " does not fit features of ", h.scalar_type(), " on ", h.device());
  const Tensor g = g_.contiguous();
  const Call c(h, y, w, senders, receivers, paths, couplings, coef, g.size(0), g.size(1));
  const auto none = [&] { return at::empty({0}, c.h.options()); };
  Tensor gh = none(), gy = none(), gw = none();
  if (need[0]) {
    const Sorted by_sender(c.senders, c.receivers, c.h.size(0));
    gh = at::zeros_like(c.h);
    const Gather f{g.data_ptr(), c.y.data_ptr(), w.w_data(),  gh.data_ptr(), g.size(1),
                   c.y.size(1),  w.columns(),    c.h.size(1), w.radial()};
    require(gather(c.is_double, true, c.tables->table, by_sender.edges(), f, c.stream));
  }
  if (need[1]) gy = at::empty_like(c.y);
  if (need[2])
    gw = c.tables->plan->zero_w && !w.is_spline() ? at::zeros_like(w.w)
                                                  : at::empty_like(w.by_edge());
  if (need[1] || need[2]) {
    void* third = need[2] ? gw.data_ptr() : nullptr;
    const EdgeGradients f{g.data_ptr(), c.h.data_ptr(), c.y.data_ptr(), w.w_data(),
                          c.senders.data_ptr<int64_t>(), c.receivers.data_ptr<int64_t>(),
                          need[1] ? gy.data_ptr() : nullptr, w.is_spline() ? nullptr : third,
                          w.is_spline() ? third : nullptr, c.senders.size(0), c.h.size(1),
                          c.y.size(1), w.columns(), g.size(1), w.radial()};
    require(edge_gradients(c.is_double, c.tables->table, f, c.stream));
  }
  return {gh, gy, gw};
}

Weights splines(const Tensor& r, const Tensor& kind, const Tensor& table, double step) {
  const c10::DeviceGuard guard(r.device());
  const Weights w = Weights::splines(r, kind, table, step);
  check_range(w.kind, table.size(0), "tpcalc: kinds lie outside of the spline table");
  return w;
}

#include "../conv_entries.inc"

Tensor radial_table(const Tensor& r, const Tensor& kind, const Tensor& table, double step,
                    int64_t order) {
  const c10::DeviceGuard guard(r.device());
  const Weights w = splines(r, kind, table, step);
  TORCH_CHECK(order >= 0 && order <= 3, "tpcalc::radial_table: derivative of order ", order,
              "; cubic splines have orders 0 to 3");
  Tensor out = at::empty({r.size(0), w.columns()}, r.options());
  require(radial_values(r.scalar_type() == at::kDouble, w.radial(), r.size(0),
                        static_cast<int>(order), w.columns(), out.data_ptr(), stream_of(r)));
  return out;
}

struct Registry {
  torch::Library ops{torch::Library::IMPL, "tpcalc", kKey, __FILE__, __LINE__};
  Registry() {
    ops.impl("conv", conv);
    ops.impl("conv_bwd", conv_bwd);
    ops.impl("conv_radial", conv_radial);
    ops.impl("conv_radial_bwd", conv_radial_bwd);
    ops.impl("radial_table", radial_table);
  }
};
const Registry* const registry = new Registry;  // as long as the process

}  // namespace
}  // namespace tpcalc::cuda
