// Path weights that are products of columns of a network (Gaunt products).
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>

namespace tpcalc {
namespace {

using at::Tensor;

// Weights of a convolution from the columns of a network: these themselves (no factors), or
// w[path] = sum over terms of the product of three blocks of `channels` columns of the network
struct Factors {
  const Tensor& columns;           // [terms, paths, 3] blocks, int64; empty for none
  int64_t channels;

  Factors(const Tensor& columns_, int64_t channels_, int64_t network_columns)
      : columns(columns_), channels(channels_) {
    if (none()) return;
    TORCH_CHECK(columns.dim() == 3 && columns.size(2) == 3 && columns.scalar_type() == at::kLong &&
                    columns.is_cpu() && channels > 0 && network_columns % channels == 0,
                "tpcalc::conv_network: factors must be an int64 CPU tensor [terms, paths, 3] of "
                "blocks of at least one channel, got ", columns.sizes(), " ",
                columns.scalar_type(), " of ", channels, " channels in a network of ",
                network_columns, " columns");
    const int64_t blocks = network_columns / channels;
    const Tensor flat = columns.contiguous();
    for (int64_t n = 0; n < flat.numel(); n++) {
      const int64_t block = flat.data_ptr<int64_t>()[n];
      TORCH_CHECK_INDEX(block >= 0 && block < blocks, "tpcalc::conv_network: factor ", block,
                        "; the network has ", blocks, " blocks of ", channels, " channels");
    }
  }
  bool none() const { return columns.numel() == 0; }
  int64_t weights(int64_t network_columns) const {
    return none() ? network_columns : columns.size(1) * channels;
  }
  Tensor factor(const Tensor& made, int64_t n) const {  // [edges, terms x paths, channels]
    const Tensor blocks = made.view({made.size(0), made.size(1) / channels, channels});
    return at::index_select(blocks, 1, columns.select(2, n).reshape({-1}));
  }
  Tensor expand(const Tensor& made) const {
    if (none()) return made;
    const Tensor product = at::mul(at::mul(factor(made, 0), factor(made, 1)), factor(made, 2));
    return at::sum(product.view({made.size(0), columns.size(0), weights(made.size(1))}), 1);
  }
  // The gradient of `made` from that of what `expand` gave
  Tensor gradient(const Tensor& g, const Tensor& made) const {
    if (none()) return g;
    const int64_t n = made.size(0), terms = columns.size(0);
    const Tensor f[3] = {factor(made, 0), factor(made, 1), factor(made, 2)};
    const Tensor each = g.view({n, 1, g.size(1)}).expand({n, terms, g.size(1)}).reshape(f[0].sizes());
    Tensor sum = at::zeros_like(made).view({n, made.size(1) / channels, channels});
    for (int64_t k = 0; k < 3; k++)
      sum = at::index_add(sum, 1, columns.select(2, k).reshape({-1}),
                          at::mul(each, at::mul(f[(k + 1) % 3], f[(k + 2) % 3])));
    return sum.view(made.sizes());
  }
};

}  // namespace
}  // namespace tpcalc
