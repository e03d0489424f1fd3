// tpcalc::weight_products: path weights that are products of columns of a network (Gaunt products).
#pragma once
#include <ATen/ops/index_select.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>

#include "step_common.h"

namespace tpcalc {
namespace {

// Weights of a convolution from the columns of a network: these themselves (no factors), or
// w[path] = sum over terms of the product of three blocks of `channels` columns of the network
struct Factors {
  Tensor columns;                  // [terms, paths, 3] blocks, int64; empty for none
  int64_t channels, blocks;        // blocks: of the network

  Factors(const Tensor& columns_, int64_t channels_, int64_t network_columns)
      : columns(columns_.contiguous()), channels(channels_), blocks(0) {
    if (none()) return;
    TORCH_CHECK(columns.dim() == 3 && columns.size(2) == 3 && columns.scalar_type() == at::kLong &&
                    columns.is_cpu() && channels > 0 && network_columns % channels == 0,
                "tpcalc::weight_products: factors must be an int64 CPU tensor [terms, paths, 3] of "
                "blocks of at least one channel, got ", columns.sizes(), " ",
                columns.scalar_type(), " of ", channels, " channels in a network of ",
                network_columns, " columns");
    blocks = network_columns / channels;
    for (int64_t n = 0; n < columns.numel(); n++) {
      const int64_t block = columns.data_ptr<int64_t>()[n];
      TORCH_CHECK_INDEX(block >= 0 && block < blocks, "tpcalc::weight_products: factor ", block,
                        "; the network has ", blocks, " blocks of ", channels, " channels");
    }
  }
  bool none() const { return columns.numel() == 0; }
  int64_t weights(int64_t network_columns) const {
    return none() ? network_columns : columns.size(1) * channels;
  }
  Products products(const Tensor& made) const {
    Products p{};
    p.x = made.data_ptr();
    p.blocks = columns.data_ptr<int64_t>();
    p.terms = columns.size(0), p.paths = columns.size(1), p.channels = channels, p.in = blocks;
    return p;
  }
  Tensor expand(const Tensor& made) const {
    if (none()) return made;
    Products p = products(made);
    const Tensor y = at::empty({made.size(0), p.paths * channels}, made.options());
    p.y = y.data_ptr();
    const auto kernel = step_kernels().products[made.scalar_type() == at::kDouble];
    over_rows(made.size(0), 3 * columns.size(0) * y.size(1),
              [&](int64_t a, int64_t b) { kernel(p, a, b); });
    return y;
  }
  // The gradient of `made` from that of what `expand` gave
  Tensor gradient(const Tensor& g, const Tensor& made) const {
    if (none()) return g;
    Products p = products(made);
    const Tensor gx = at::empty_like(made);
    p.g = g.data_ptr(), p.gx = gx.data_ptr();
    const auto kernel = step_kernels().products_backward[made.scalar_type() == at::kDouble];
    over_rows(made.size(0), 8 * columns.size(0) * g.size(1),
              [&](int64_t a, int64_t b) { kernel(p, a, b); });
    return gx;
  }
  // The derivative of dx . gradient(g, made) by g and by `made`
  std::tuple<Tensor, Tensor> second(const Tensor& g, const Tensor& made, const Tensor& dx) const {
    Products p = products(made);
    const Tensor gg = at::empty_like(g), gx = at::empty_like(made);
    p.g = g.data_ptr(), p.dx = dx.data_ptr(), p.gg = gg.data_ptr(), p.gx = gx.data_ptr();
    const auto kernel = step_kernels().products_double_backward[made.scalar_type() == at::kDouble];
    over_rows(made.size(0), 20 * columns.size(0) * g.size(1),
              [&](int64_t a, int64_t b) { kernel(p, a, b); });
    return {gg, gx};
  }
  // `expand` by torch's ops
  Tensor by_ops(const Tensor& made) const {
    if (none()) return made;
    const Tensor x = made.view({made.size(0), blocks, channels});
    const auto factor = [&](int64_t n) {  // [edges, terms x paths, channels]
      return at::index_select(x, 1, columns.select(2, n).reshape({-1}));
    };
    const Tensor product = at::mul(at::mul(factor(0), factor(1)), factor(2));
    return at::sum(product.view({made.size(0), columns.size(0), weights(made.size(1))}), 1);
  }
};

// Not without factors: `x` itself would be the result
inline Factors some_factors(const Tensor& x, const Tensor& columns, int64_t channels) {
  TORCH_CHECK(columns.numel() > 0, "tpcalc::weight_products: no factors");
  TORCH_CHECK(x.dim() == 2, "tpcalc::weight_products: weights must be a matrix, got ", x.sizes());
  check_matrix("weight_products", "weights", x, x.size(1));
  return Factors(columns, channels, x.size(1));
}

Tensor weight_products(const Tensor& x, const Tensor& columns, int64_t channels) {
  return some_factors(x, columns, channels).expand(x.contiguous());
}

inline void check_beside(const char* what, const Tensor& g, const Tensor& x, int64_t columns) {
  check_matrix("weight_products_bwd", what, g, columns);
  TORCH_CHECK(g.size(0) == x.size(0) && g.scalar_type() == x.scalar_type(),
              "tpcalc::weight_products_bwd: ", what, " ", g.sizes(), " ", g.scalar_type(),
              " of weights ", x.sizes(), " ", x.scalar_type());
}

Tensor weight_products_bwd(const Tensor& g, const Tensor& x, const Tensor& columns,
                           int64_t channels) {
  const Factors f = some_factors(x, columns, channels);
  check_beside("the gradient", g, x, f.weights(x.size(1)));
  return f.gradient(g.contiguous(), x.contiguous());
}

std::tuple<Tensor, Tensor> weight_products_double_bwd(const Tensor& g, const Tensor& x,
                                                      const Tensor& dx, const Tensor& columns,
                                                      int64_t channels) {
  const Factors f = some_factors(x, columns, channels);
  check_beside("the gradient", g, x, f.weights(x.size(1)));
  check_beside("the tangent", dx, x, x.size(1));
  return f.second(g.contiguous(), x.contiguous(), dx.contiguous());
}

Tensor weight_products_meta(const Tensor& x, const Tensor& columns, int64_t channels) {
  return at::empty({x.size(0), columns.size(1) * channels}, x.options());
}
Tensor weight_products_bwd_meta(const Tensor&, const Tensor& x, const Tensor&, int64_t) {
  return at::empty_like(x);
}
std::tuple<Tensor, Tensor> weight_products_double_bwd_meta(const Tensor& g, const Tensor& x,
                                                           const Tensor&, const Tensor&, int64_t) {
  return {at::empty_like(g), at::empty_like(x)};
}

struct WeightProductsBackward : Function<WeightProductsBackward> {
  static Tensor forward(AutogradContext* ctx, const Tensor& g, const Tensor& x,
                        const Tensor& columns, int64_t channels) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({g, x, columns});
    ctx->saved_data["channels"] = channels;
    static const auto op = typed<decltype(weight_products_bwd)>("tpcalc::weight_products_bwd");
    return op.call(g, x, columns, channels);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dx) {
    const auto s = ctx->get_saved_variables();
    const int64_t channels = ctx->saved_data["channels"].toInt();
    if (at::GradMode::is_enabled()) {
      const auto by_ops = [&](const variable_list& in) {
        const Tensor x = in[1].requires_grad() ? in[1] : in[1].detach().requires_grad_();
        const Tensor y = Factors(s[2], channels, x.size(1)).by_ops(x);
        return torch::autograd::grad({y}, {x}, {in[0]}, true, true)[0];
      };
      auto made = differentiable_gradients({s[0], s[1]}, dx[0], by_ops);
      return {made[0], made[1], Tensor(), Tensor()};
    }
    static const auto op =
        typed<decltype(weight_products_double_bwd)>("tpcalc::weight_products_double_bwd");
    const auto [gg, gx] = op.call(s[0], s[1], dx[0], s[2], channels);
    return {gg, gx, Tensor(), Tensor()};
  }
};

Tensor weight_products_bwd_autograd(const Tensor& g, const Tensor& x, const Tensor& columns,
                                    int64_t channels) {
  return WeightProductsBackward::apply(g, x, columns, channels);
}

struct WeightProducts : Function<WeightProducts> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& columns,
                        int64_t channels) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, columns});
    ctx->saved_data["channels"] = channels;
    static const auto op = typed<decltype(weight_products)>("tpcalc::weight_products");
    return op.call(x, columns, channels);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const int64_t channels = ctx->saved_data["channels"].toInt();
    static const auto op = typed<decltype(weight_products_bwd)>("tpcalc::weight_products_bwd");
    return {op.call(g[0], s[0], s[1], channels), Tensor(), Tensor()};
  }
};

Tensor weight_products_autograd(const Tensor& x, const Tensor& columns, int64_t channels) {
  return WeightProducts::apply(x, columns, channels);
}

}  // namespace
}  // namespace tpcalc
