// tpcalc::conv_network: a convolution whose weights a small network makes, block by block of edges.
#pragma once
#include <ATen/ops/mm.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>

#include "conv_autograd.h"

namespace tpcalc {
namespace {

// x -> silu(...silu(x W0) W1...) Wn, without biases; constant
struct Network {
  std::vector<Tensor> layers;
  std::vector<Tensor> before;  // what the last call of `weights` gave to each silu

  // `flat`: the matrices [widths[n], widths[n + 1]] one after the other
  Network(const Tensor& flat, at::IntArrayRef widths, const Tensor& feats) {
    TORCH_CHECK(feats.dim() == 2 && widths.size() > 1 && feats.size(1) == widths.front(),
                "tpcalc::conv_network: edge features ", feats.sizes(),
                " do not fit a network of widths ", widths);
    int64_t size = 0;
    for (size_t n = 0; n + 1 < widths.size(); n++) {
      TORCH_CHECK(widths[n] > 0 && widths[n + 1] > 0, "tpcalc::conv_network: widths ", widths,
                  " must be positive");
      size += widths[n] * widths[n + 1];
    }
    TORCH_CHECK(flat.dim() == 1 && flat.size(0) == size && flat.scalar_type() == feats.scalar_type(),
                "tpcalc::conv_network: a network of widths ", widths, " has ", size, " numbers in ",
                "the dtype of the features, got ", flat.sizes(), " ", flat.scalar_type());
    TORCH_CHECK(!flat.requires_grad(), "tpcalc::conv_network: the network is constant; train with "
                "tpcalc::conv");
    for (size_t n = 0, at = 0; n + 1 < widths.size(); n++) {
      const int64_t rows = widths[n], columns = widths[n + 1];
      layers.push_back(flat.narrow(0, at, rows * columns).view({rows, columns}));
      at += rows * columns;
    }
  }
  int64_t columns() const { return layers.back().size(1); }
  Tensor weights(Tensor x) {
    before.clear();
    for (size_t n = 0;; n++) {
      x = at::mm(x, layers[n]);
      if (n + 1 == layers.size()) return x;
      before.push_back(x);
      x = at::silu(x);
    }
  }
  // of the features, from the gradient of the weights
  Tensor gradient(Tensor g) const {
    for (size_t n = layers.size();;) {
      g = at::mm(g, layers[--n].t());
      if (n == 0) return g;
      g = silu_gradient(g, before[n - 1]);
    }
  }
  static Tensor silu_gradient(const Tensor& g, const Tensor& x) {
    if (!at::GradMode::is_enabled()) return at::silu_backward(g, x);  // has no derivative itself
    const Tensor s = at::sigmoid(x);
    return at::mul(g, at::mul(s, at::add(at::mul(x, at::rsub(s, 1)), 1)));
  }
};

// What both directions need. Edges in the order of their receivers go block by block; in another
// order they are one block.
struct NetworkEdges {
  Tensor h, y, feats, senders, receivers;
  Network network;
  std::shared_ptr<const ConvPlan> plan;
  SortedEdges edges;
  int64_t block, size;  // edges of a block, bytes of a number

  NetworkEdges(const Tensor& h_, const Tensor& y_, const Tensor& feats_, const Tensor& flat,
               at::IntArrayRef widths, const Tensor& senders_, const Tensor& receivers_, TABLES,
               int64_t block_, int64_t num_receivers, int64_t out_dim)
      : h((check_inputs(h_, y_, feats_, senders_, receivers_), h_.contiguous())), y(y_.contiguous()), feats(feats_.contiguous()),
        senders(senders_.contiguous()), receivers(receivers_.contiguous()),
        network(flat, widths, feats),
        plan(plan_for(paths, couplings, coef, h.scalar_type(),
                      {h.size(1), y.size(1), network.columns(), out_dim})),
        edges(senders, receivers, h.size(0), num_receivers), block(block_), size(h.element_size()) {
    TORCH_CHECK(block > 0, "tpcalc::conv_network: blocks of ", block, " edges; at least 1");
  }

  // f(first receiver, last receiver, first edge, edges)
  template <class F> void over_blocks(const F& f) const {
    const auto& ptr = edges.row_ptr;
    const int64_t n = edges.num_receivers();
    for (int64_t a = 0, b; a < n; a = b) {
      const auto past = std::upper_bound(ptr.begin() + a + 1, ptr.end(), ptr[a] + block);
      b = edges.order.empty() ? std::max<int64_t>(past - ptr.begin() - 1, a + 1) : n;
      f(a, b, ptr[a], ptr[b] - ptr[a]);
    }
  }
  // The address that row 0 would have of rows that begin with `edge`
  char* row_zero(const Tensor& rows, int64_t edge) const {
    return static_cast<char*>(rows.data_ptr()) - edge * rows.size(1) * size;
  }
};

#define NETWORK                                                                        \
  const Tensor &h_, const Tensor &y_, const Tensor &feats_, const Tensor &flat,        \
      at::IntArrayRef widths, const Tensor &senders, const Tensor &receivers, TABLES,  \
      int64_t block

inline Tensor conv_network(NETWORK, int64_t num_receivers, int64_t out_dim) {
  NetworkEdges in(h_, y_, feats_, flat, widths, senders, receivers, paths, couplings, coef, block,
                  num_receivers, out_dim);
  const Tensor& h = in.h;
  Tensor out = in.plan->zero_out ? at::zeros({num_receivers, out_dim}, h.options())
                                 : at::empty({num_receivers, out_dim}, h.options());
  const auto kernel = in.plan->kernels->forward[h.scalar_type() == at::kDouble];
  in.over_blocks([&](int64_t a, int64_t b, int64_t edge, int64_t n) {
    const Tensor w = in.network.weights(in.feats.narrow(0, edge, n));
    const Forward f{h.data_ptr(), in.y.data_ptr(), in.row_zero(w, edge), out.data_ptr(),
                    h.size(1), in.y.size(1), w.size(1), out_dim, Radial{}};
    over_receivers(in.edges, num_parts(n), a, b, [&](int, int64_t first, int64_t last) {
      kernel(in.plan->plan, in.edges.graph(first, last), f);
    });
  });
  return out;
}

// Gradients of h, y and the features; the weights of a block are made again
inline Three conv_network_bwd(const Tensor& g_, NETWORK) {
  TORCH_CHECK(g_.dim() == 2 && g_.scalar_type() == h_.scalar_type() && g_.is_cpu(),
              "tpcalc::conv_network_bwd: gradient ", g_.sizes(), " ", g_.scalar_type(),
              " does not fit features of ", h_.scalar_type());
  const Tensor g = g_.contiguous();
  NetworkEdges in(h_, y_, feats_, flat, widths, senders, receivers, paths, couplings, coef, block,
                  g.size(0), g.size(1));
  const Tensor &h = in.h, &y = in.y;
  Partial gh(h, num_parts(in.edges));
  Tensor gy = at::empty_like(y), gfeats = at::empty_like(in.feats);
  const auto kernel = in.plan->kernels->backward[h.scalar_type() == at::kDouble];
  in.over_blocks([&](int64_t a, int64_t b, int64_t edge, int64_t n) {
    const Tensor w = in.network.weights(in.feats.narrow(0, edge, n));
    const Tensor gw = in.plan->zero_w ? at::zeros_like(w) : at::empty_like(w);
    over_receivers(in.edges, num_parts(n), a, b, [&](int q, int64_t first, int64_t last) {
      const Backward back{g.data_ptr(), h.data_ptr(), y.data_ptr(), in.row_zero(w, edge), gh.of(q),
                          gy.data_ptr(), in.row_zero(gw, edge), nullptr, h.size(1), y.size(1),
                          w.size(1), g.size(1), Radial{}};
      kernel(in.plan->plan, in.edges.graph(first, last), back);
    });
    gfeats.narrow(0, edge, n).copy_(in.network.gradient(gw));
  });
  return {gh.sum(), gy, gfeats};
}

Tensor conv_network_meta(NETWORK, int64_t num_receivers, int64_t out_dim) {
  return at::empty({num_receivers, out_dim}, h_.options());
}
Three conv_network_bwd_meta(const Tensor&, NETWORK) {
  return {at::empty_like(h_), at::empty_like(y_), at::empty_like(feats_)};
}

struct ConvNetwork : Function<ConvNetwork> {
  static Tensor forward(AutogradContext* ctx, NETWORK, int64_t num_receivers, int64_t out_dim) {
    static const auto op = typed<decltype(conv_network)>("tpcalc::conv_network");
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({h_, y_, feats_, flat, senders, receivers, paths, couplings, coef});
    ctx->saved_data["widths"] = widths.vec();
    ctx->saved_data["block"] = block;
    return op.call(h_, y_, feats_, flat, widths, senders, receivers, paths, couplings, coef, block,
                   num_receivers, out_dim);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    static const auto op = typed<decltype(conv_network_bwd)>("tpcalc::conv_network_bwd");
    const auto s = ctx->get_saved_variables();
    const auto widths = ctx->saved_data["widths"].toIntVector();
    const variable_list t(s.begin() + 4, s.end());
    variable_list grads(13);
    if (at::GradMode::is_enabled()) {  // to be differentiated again: by ops that can be
      Network network(s[3], widths, s[2]);
      const Tensor w = network.weights(s[2]);
      const auto [gh, gy, gw] = call_bwd(g[0], s[0], s[1], w, t, {true, true, true});
      grads[0] = gh, grads[1] = gy, grads[2] = network.gradient(gw);
    } else {
      at::AutoDispatchBelowADInplaceOrView guard;
      std::tie(grads[0], grads[1], grads[2]) =
          op.call(g[0], s[0], s[1], s[2], s[3], widths, t[0], t[1], t[2], t[3], t[4],
                  ctx->saved_data["block"].toInt());
    }
    return grads;
  }
};

Tensor conv_network_autograd(NETWORK, int64_t num_receivers, int64_t out_dim) {
  return ConvNetwork::apply(h_, y_, feats_, flat, widths, senders, receivers, paths, couplings,
                            coef, block, num_receivers, out_dim);
}
#undef NETWORK

}  // namespace
}  // namespace tpcalc
