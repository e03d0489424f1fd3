// tpcalc::conv_network: a convolution whose weights a small network makes, block by block of edges.
#pragma once
#include "conv_autograd.h"
#include "mlp_task.h"
#include "products_op.h"

namespace tpcalc {
namespace {

#define NETWORK                                                                                \
  const Tensor &h_, const Tensor &y_, const Tensor &feats_, const MaybeTensor &envelope,       \
      at::TensorList layers, double norm, const Tensor &factors_, int64_t channels,            \
      const Tensor &senders_, const Tensor &receivers_, TABLES, int64_t block

// What both directions need. Edges in the order of their receivers go by blocks of `block` a
// thread; in another order they are one block.
struct NetworkEdges {
  Tensor h, y, senders, receivers;
  MlpTask network;
  Factors factors;
  std::shared_ptr<const ConvPlan> plan;
  SortedEdges edges;
  int64_t edges_of_block;

  NetworkEdges(const char* op, bool backward, NETWORK, int64_t num_receivers, int64_t out_dim)
      : h((check_inputs(h_, y_, feats_, senders_, receivers_), h_.contiguous())),
        y(y_.contiguous()), senders(senders_.contiguous()), receivers(receivers_.contiguous()),
        network(op, feats_, layers, norm, envelope, backward), factors(factors_, channels, network.columns()),
        plan(plan_for(paths, couplings, coef, h.scalar_type(),
                      {h.size(1), y.size(1), factors.weights(network.columns()), out_dim})),
        edges(senders, receivers, h.size(0), num_receivers),
        edges_of_block(block * at::get_num_threads()) {
    TORCH_CHECK(block > 0, "tpcalc::", op, ": blocks of ", block, " edges; at least 1");
    TORCH_CHECK(feats_.scalar_type() == h.scalar_type(), "tpcalc::", op, ": edge features are ",
                feats_.scalar_type(), ", node features ", h.scalar_type());
    for (const Tensor& w : layers)
      TORCH_CHECK(!w.requires_grad(), "tpcalc::", op, ": the network is constant; train with "
                  "tpcalc::conv");
  }

  // f(first receiver, last receiver, first edge, edges)
  template <class F> void over_blocks(const F& f) const {
    const auto& ptr = edges.row_ptr;
    const int64_t n = edges.num_receivers();
    for (int64_t a = 0, b; a < n; a = b) {
      const auto past = std::upper_bound(ptr.begin() + a + 1, ptr.end(), ptr[a] + edges_of_block);
      b = edges.order.empty() ? std::max<int64_t>(past - ptr.begin() - 1, a + 1) : n;
      f(a, b, ptr[a], ptr[b] - ptr[a]);
    }
  }
  // What the network makes of edges first .. first + n
  Tensor made(int64_t first, int64_t n) {
    const Tensor rows = at::empty({n, network.columns()}, h.options());
    network.forward(first, first + n, row_zero(rows, first));
    return rows;
  }
  // The address that row 0 would have of rows that begin with `edge`
  static char* row_zero(const Tensor& rows, int64_t edge) {
    return static_cast<char*>(rows.data_ptr()) - edge * rows.size(1) * rows.element_size();
  }
};

inline Tensor conv_network(NETWORK, int64_t num_receivers, int64_t out_dim) {
  NetworkEdges in("conv_network", false, h_, y_, feats_, envelope, layers, norm, factors_,
                  channels, senders_, receivers_, paths, couplings, coef, block, num_receivers,
                  out_dim);
  const Tensor& h = in.h;
  Tensor out = in.plan->zero_out ? at::zeros({num_receivers, out_dim}, h.options())
                                 : at::empty({num_receivers, out_dim}, h.options());
  const auto kernel = in.plan->kernels->forward[h.scalar_type() == at::kDouble];
  in.over_blocks([&](int64_t a, int64_t b, int64_t edge, int64_t n) {
    const Tensor w = in.factors.expand(in.made(edge, n));
    const Forward f{h.data_ptr(), in.y.data_ptr(), in.row_zero(w, edge), out.data_ptr(),
                    h.size(1), in.y.size(1), w.size(1), out_dim, Radial{}};
    over_receivers(in.edges, num_parts(n), a, b, [&](int, int64_t first, int64_t last) {
      kernel(in.plan->plan, in.edges.graph(first, last), f);
    });
  });
  return out;
}

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Gradients of h, y, the features and the envelope; the weights of a block are made again
inline Four conv_network_bwd(const Tensor& g_, NETWORK) {
  TORCH_CHECK(g_.dim() == 2 && g_.scalar_type() == h_.scalar_type() && g_.is_cpu(),
              "tpcalc::conv_network_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(),
              " does not fit features of ", h_.scalar_type());
  const Tensor g = g_.contiguous();
  NetworkEdges in("conv_network_bwd", true, h_, y_, feats_, envelope, layers, norm, factors_,
                  channels, senders_, receivers_, paths, couplings, coef, block, g.size(0),
                  g.size(1));
  const Tensor &h = in.h, &y = in.y;
  Partial gh(h, num_parts(in.edges));
  Tensor gy = at::empty_like(y), gfeats = at::empty_like(in.network.x);
  Tensor genvelope = in.network.genvelope();
  const auto kernel = in.plan->kernels->backward[h.scalar_type() == at::kDouble];
  in.over_blocks([&](int64_t a, int64_t b, int64_t edge, int64_t n) {
    const Tensor made = in.made(edge, n), w = in.factors.expand(made);
    const Tensor gw = in.plan->zero_w ? at::zeros_like(w) : at::empty_like(w);
    over_receivers(in.edges, num_parts(n), a, b, [&](int q, int64_t first, int64_t last) {
      const Backward back{g.data_ptr(), h.data_ptr(), y.data_ptr(), in.row_zero(w, edge), gh.of(q),
                          gy.data_ptr(), in.row_zero(gw, edge), nullptr, h.size(1), y.size(1),
                          w.size(1), g.size(1), Radial{}};
      kernel(in.plan->plan, in.edges.graph(first, last), back);
    });
    const Tensor gmade = in.factors.gradient(gw, made);
    in.network.backward(edge, edge + n, in.row_zero(gmade, edge), gfeats, genvelope);
  });
  return {gh.sum(), gy, gfeats, genvelope};
}

Tensor conv_network_meta(NETWORK, int64_t num_receivers, int64_t out_dim) {
  return at::empty({num_receivers, out_dim}, h_.options());
}
Four conv_network_bwd_meta(const Tensor&, NETWORK) {
  return {at::empty_like(h_), at::empty_like(y_), at::empty_like(feats_),
          at::empty({envelope ? feats_.size(0) : 0, 1}, h_.options())};
}

struct ConvNetwork : Function<ConvNetwork> {
  static Tensor forward(AutogradContext* ctx, NETWORK, int64_t num_receivers, int64_t out_dim) {
    static const auto op = typed<decltype(conv_network)>("tpcalc::conv_network");
    at::AutoDispatchBelowADInplaceOrView guard;
    variable_list saved{h_, y_, feats_, envelope.value_or(Tensor()), factors_, senders_,
                        receivers_, paths, couplings, coef};
    saved.insert(saved.end(), layers.begin(), layers.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["norm"] = norm;
    ctx->saved_data["numbers"] = std::vector<int64_t>{channels, block};
    return op.call(h_, y_, feats_, envelope, layers, norm, factors_, channels, senders_,
                   receivers_, paths, couplings, coef, block, num_receivers, out_dim);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    static const auto op = typed<decltype(conv_network_bwd)>("tpcalc::conv_network_bwd");
    const auto s = ctx->get_saved_variables();
    const double norm = ctx->saved_data["norm"].toDouble();
    const auto numbers = ctx->saved_data["numbers"].toIntVector();
    const MaybeTensor envelope = s[3].defined() ? MaybeTensor(s[3]) : std::nullopt;
    const variable_list layers(s.begin() + 10, s.end());
    variable_list grads(s.size() + 6);
    if (at::GradMode::is_enabled()) {  // to be differentiated again: by ops that can be
      const Factors factors(s[4], numbers[0], layers.back().size(1));
      const auto by_ops = [&](const variable_list& x) {
        const MaybeTensor factor = envelope ? MaybeTensor(x[3]) : std::nullopt;
        const Tensor w = factors.by_ops(mlp_by_ops(x[2], layers, norm, factor));
        return call_conv(x[0], x[1], w, {s.begin() + 5, s.begin() + 10}, g[0].size(0), g[0].size(1));
      };
      const variable_list inputs(s.begin(), s.begin() + (envelope ? 4 : 3));
      const auto made = differentiable_gradients(inputs, g[0], by_ops);
      std::copy(made.begin(), made.end(), grads.begin());
      return grads;
    }
    at::AutoDispatchBelowADInplaceOrView guard;
    std::tie(grads[0], grads[1], grads[2], grads[3]) =
        op.call(g[0], s[0], s[1], s[2], envelope, layers, norm, s[4], numbers[0], s[5], s[6], s[7],
                s[8], s[9], numbers[1]);
    if (!envelope) grads[3] = Tensor();
    return grads;
  }
};

Tensor conv_network_autograd(NETWORK, int64_t num_receivers, int64_t out_dim) {
  return ConvNetwork::apply(h_, y_, feats_, envelope, layers, norm, factors_, channels, senders_,
                            receivers_, paths, couplings, coef, block, num_receivers, out_dim);
}
#undef NETWORK

}  // namespace
}  // namespace tpcalc
