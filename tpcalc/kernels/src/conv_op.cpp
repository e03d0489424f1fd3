#include "conv_op.h"

#include <ATen/Parallel.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <tuple>

#include "conv_plan.h"

namespace tpcalc {
namespace {

using at::Tensor;
using Need = std::array<bool, 3>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

#define TABLES const Tensor &paths, const Tensor &couplings, const Tensor &coef
const char* const kSchemas[] = {
    "conv(Tensor h, Tensor y, Tensor w, Tensor senders, Tensor receivers, Tensor paths, "
    "Tensor couplings, Tensor coef, int num_receivers, int out_dim) -> Tensor",
    "conv_bwd(Tensor g, Tensor h, Tensor y, Tensor w, Tensor senders, Tensor receivers, "
    "Tensor paths, Tensor couplings, Tensor coef, bool[3] need) -> (Tensor, Tensor, Tensor)"};

// Edges in the order of their receivers; they usually come that way
struct SortedEdges {
  std::vector<int64_t> row_ptr, order;
  const int64_t* senders;

  SortedEdges(const Tensor& senders_, const Tensor& receivers_, int64_t num_senders,
              int64_t num_receivers)
      : row_ptr(num_receivers + 1), senders(senders_.data_ptr<int64_t>()) {
    const int64_t n = receivers_.size(0), *receivers = receivers_.data_ptr<int64_t>();
    int64_t low = 0, high = -1, low_s = 0, high_s = -1;
    bool sorted = true;
    for (int64_t e = 0; e < n; e++) {
      low = std::min(low, receivers[e]), high = std::max(high, receivers[e]);
      low_s = std::min(low_s, senders[e]), high_s = std::max(high_s, senders[e]);
      sorted &= e == 0 || receivers[e - 1] <= receivers[e];
    }
    TORCH_CHECK_INDEX(low >= 0 && high < num_receivers, "tpcalc::conv: receivers lie in [", low,
                      ", ", high, "], there are ", num_receivers, " nodes to receive");
    TORCH_CHECK_INDEX(low_s >= 0 && high_s < num_senders, "tpcalc::conv: senders lie in [", low_s,
                      ", ", high_s, "], there are ", num_senders, " nodes that send");
    for (int64_t e = 0; e < n; e++) row_ptr[receivers[e] + 1]++;
    for (int64_t i = 0; i < num_receivers; i++) row_ptr[i + 1] += row_ptr[i];
    if (sorted) return;
    order.resize(n);
    std::vector<int64_t> next(row_ptr.begin(), row_ptr.end() - 1);
    for (int64_t e = 0; e < n; e++) order[next[receivers[e]]++] = e;
  }

  Graph graph(int64_t first, int64_t last) const {
    return {row_ptr.data(), order.empty() ? nullptr : order.data(), senders, first, last};
  }
  int64_t num_receivers() const { return static_cast<int64_t>(row_ptr.size()) - 1; }

  // First receiver of part q of n, with about as many edges in each part
  int64_t split(int q, int n) const {
    if (q == 0) return 0;
    if (q == n) return num_receivers();
    const int64_t edge = row_ptr.back() * q / n;
    return std::lower_bound(row_ptr.begin(), row_ptr.end(), edge) - row_ptr.begin();
  }
};

void check_inputs(const Tensor& h, const Tensor& y, const Tensor& w, const Tensor& senders,
                  const Tensor& receivers) {
  const auto type = h.scalar_type();
  TORCH_CHECK(h.dim() == 2 && y.dim() == 2 && w.dim() == 2,
              "tpcalc::conv: node features, edge basis and edge weights must be matrices, got ",
              h.sizes(), ", ", y.sizes(), ", ", w.sizes());
  TORCH_CHECK(type == at::kFloat || type == at::kDouble,
              "tpcalc::conv: features must be float32 or float64, got ", type);
  TORCH_CHECK(y.scalar_type() == type && w.scalar_type() == type,
              "tpcalc::conv: node features, edge basis and edge weights must have one dtype, got ",
              type, ", ", y.scalar_type(), ", ", w.scalar_type());
  TORCH_CHECK(senders.dim() == 1 && receivers.dim() == 1 && senders.scalar_type() == at::kLong &&
                  receivers.scalar_type() == at::kLong,
              "tpcalc::conv: senders and receivers must be int64 vectors, got ",
              senders.scalar_type(), senders.sizes(), ", ", receivers.scalar_type(),
              receivers.sizes());
  const int64_t n = senders.size(0);
  TORCH_CHECK(receivers.size(0) == n && y.size(0) == n && w.size(0) == n, "tpcalc::conv: ", n,
              " senders, ", receivers.size(0), " receivers, ", y.size(0), " rows of edge basis, ",
              w.size(0), " rows of edge weights; one of each an edge is needed");
  TORCH_CHECK(h.is_cpu() && y.is_cpu() && w.is_cpu() && senders.is_cpu() && receivers.is_cpu(),
              "tpcalc::conv: this build runs on the CPU only, got ", h.device(), ", ", y.device(),
              ", ", w.device(), ", ", senders.device(), ", ", receivers.device());
}

// Runs f(thread, first receiver, last receiver) over parts with equal numbers of edges
template <class F> void over_receivers(const SortedEdges& edges, int parts, const F& f) {
  at::parallel_for(0, parts, 1, [&](int64_t a, int64_t b) {
    for (int64_t q = a; q < b; q++) {
      const int64_t first = edges.split(q, parts), last = edges.split(q + 1, parts);
      if (first < last) f(static_cast<int>(q), first, last);
    }
  });
}

int num_parts(const SortedEdges& edges) {
  const int64_t useful = edges.row_ptr.back() / 64;  // fewer edges are not worth a thread
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), useful)));
}

Tensor conv(const Tensor& h_, const Tensor& y_, const Tensor& w_, const Tensor& senders_,
            const Tensor& receivers_, TABLES, int64_t num_receivers, int64_t out_dim) {
  check_inputs(h_, y_, w_, senders_, receivers_);
  TORCH_CHECK(num_receivers >= 0 && out_dim >= 0, "tpcalc::conv: ", num_receivers,
              " receivers of ", out_dim, " columns asked for");
  const Tensor h = h_.contiguous(), y = y_.contiguous(), w = w_.contiguous();
  const Tensor senders = senders_.contiguous(), receivers = receivers_.contiguous();
  const auto plan = plan_for(paths, couplings, coef, h.scalar_type(),
                             {h.size(1), y.size(1), w.size(1), out_dim});
  const SortedEdges edges(senders, receivers, h.size(0), num_receivers);
  Tensor out = plan->zero_out ? at::zeros({num_receivers, out_dim}, h.options())
                              : at::empty({num_receivers, out_dim}, h.options());
  const Forward f{h.data_ptr(), y.data_ptr(), w.data_ptr(), out.data_ptr(),
                  h.size(1),    y.size(1),    w.size(1),    out_dim};
  const auto kernel = plan->kernels->forward[h.scalar_type() == at::kDouble];
  over_receivers(edges, num_parts(edges), [&](int, int64_t first, int64_t last) {
    kernel(plan->plan, edges.graph(first, last), f);
  });
  return out;
}

// One gradient of the nodes a thread: [parts, rows, columns]; the first is the result
struct Partial {
  Tensor all;
  Partial(const Tensor& like, int parts)
      : all(at::zeros({parts, like.size(0), like.size(1)}, like.options())) {}
  void* of(int q) { return all.select(0, q).data_ptr(); }
  Tensor sum() { return all.size(0) == 1 ? all.select(0, 0) : all.sum(0); }
};

Three conv_bwd(const Tensor& g_, const Tensor& h_, const Tensor& y_, const Tensor& w_,
               const Tensor& senders_, const Tensor& receivers_, TABLES, Need need) {
  check_inputs(h_, y_, w_, senders_, receivers_);
  TORCH_CHECK(g_.dim() == 2 && g_.scalar_type() == h_.scalar_type() && g_.is_cpu(),
              "tpcalc::conv_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(),
              " does not fit features of ", h_.scalar_type());
  const Tensor g = g_.contiguous(), h = h_.contiguous(), y = y_.contiguous(), w = w_.contiguous();
  const Tensor senders = senders_.contiguous(), receivers = receivers_.contiguous();
  const auto plan = plan_for(paths, couplings, coef, h.scalar_type(),
                             {h.size(1), y.size(1), w.size(1), g.size(1)});
  const SortedEdges edges(senders, receivers, h.size(0), g.size(0));
  const int parts = num_parts(edges);
  Partial gh(need[0] ? h : at::empty({0, 0}, h.options()), need[0] ? parts : 1);
  const Tensor gy = need[1] ? at::empty_like(y) : at::empty({0}, h.options());
  const Tensor gw = !need[2] ? at::empty({0}, h.options())
                    : plan->zero_w ? at::zeros_like(w)
                                   : at::empty_like(w);
  const auto kernel = plan->kernels->backward[h.scalar_type() == at::kDouble];
  over_receivers(edges, parts, [&](int q, int64_t first, int64_t last) {
    const Backward b{g.data_ptr(), h.data_ptr(), y.data_ptr(), w.data_ptr(),
                     need[0] ? gh.of(q) : nullptr, need[1] ? gy.data_ptr() : nullptr,
                     need[2] ? gw.data_ptr() : nullptr, h.size(1), y.size(1), w.size(1),
                     g.size(1)};
    kernel(plan->plan, edges.graph(first, last), b);
  });
  return {gh.sum(), gy, gw};  // without rows where not needed
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
std::array<Tensor, 4> conv_double_bwd(const Tensor& g_, const Tensor& h_, const Tensor& y_,
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

Tensor conv_meta(const Tensor& h, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                 const Tensor&, const Tensor&, const Tensor&, int64_t num_receivers,
                 int64_t out_dim) {
  return at::empty({num_receivers, out_dim}, h.options());
}

Three conv_bwd_meta(const Tensor&, const Tensor& h, const Tensor& y, const Tensor& w,
                    const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                    Need need) {
  const auto like = [](const Tensor& t, bool needed) {
    return needed ? at::empty_like(t) : at::empty({0}, t.options());
  };
  return {like(h, need[0]), like(y, need[1]), like(w, need[2])};
}

template <class F> auto typed(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}
Tensor call_conv(const Tensor& h, const Tensor& y, const Tensor& w, const variable_list& t,
                 int64_t num_receivers, int64_t out_dim) {
  static const auto op = typed<decltype(conv)>("tpcalc::conv");
  return op.call(h, y, w, t[0], t[1], t[2], t[3], t[4], num_receivers, out_dim);
}
Three call_bwd(const Tensor& g, const Tensor& h, const Tensor& y, const Tensor& w,
               const variable_list& t, Need need) {
  static const auto op = typed<decltype(conv_bwd)>("tpcalc::conv_bwd");
  return op.call(g, h, y, w, t[0], t[1], t[2], t[3], t[4], need);
}
Tensor plus(const Tensor& a, const Tensor& b) { return a.defined() ? at::add(a, b) : b; }

// The derivatives of conv_bwd by the two ops themselves (conv is linear in h, y and w), which
// can be differentiated again
std::array<Tensor, 4> double_bwd_by_ops(const Tensor& g, const Tensor& h, const Tensor& y,
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
  return Conv::apply(h, y, w, senders, receivers, paths, couplings, coef, num_receivers, out_dim);
}
Three conv_bwd_autograd(const Tensor& g, const Tensor& h, const Tensor& y, const Tensor& w,
                        const Tensor& senders, const Tensor& receivers, TABLES, Need need) {
  const auto r = ConvBackward::apply(g, h, y, w, senders, receivers, paths, couplings, coef,
                                     need[0], need[1], need[2]);
  return {r[0], r[1], r[2]};
}

}  // namespace
}  // namespace tpcalc

extern "C" void tpcalc_register_ops() {
  using torch::Library;
  if (c10::Dispatcher::singleton().findSchema({"tpcalc::conv", ""})) return;
  // for the life of the process: torch forgets an op when its Library goes
  static Library def(Library::FRAGMENT, "tpcalc", std::nullopt, __FILE__, __LINE__);
  static Library cpu(Library::IMPL, "tpcalc", c10::DispatchKey::CPU, __FILE__, __LINE__);
  static Library meta(Library::IMPL, "tpcalc", c10::DispatchKey::Meta, __FILE__, __LINE__);
  static Library grad(Library::IMPL, "tpcalc", c10::DispatchKey::Autograd, __FILE__, __LINE__);
  for (const char* schema : tpcalc::kSchemas) def.def(schema);
  cpu.impl("conv", tpcalc::conv);
  cpu.impl("conv_bwd", tpcalc::conv_bwd);
  meta.impl("conv", tpcalc::conv_meta);
  meta.impl("conv_bwd", tpcalc::conv_bwd_meta);
  grad.impl("conv", tpcalc::conv_autograd);
  grad.impl("conv_bwd", tpcalc::conv_bwd_autograd);
}

namespace {
const bool registered = (tpcalc_register_ops(), true);
}
