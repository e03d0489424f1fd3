// tpcalc::linear and the gradient of its weights: all irreps (and kinds of nodes) in one op.
#pragma once
#include <ATen/ops/add.h>

#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

// Blocks (first column of x, first column of y, components, channels in, channels out) and the
// nodes by kind. The weights hold, block by block, one matrix [in, out] a kind.
struct LinearTask {
  std::vector<LinearBlock> blocks;
  std::vector<int64_t> order, ends;
  int64_t kinds, weights = 0, packed = 0, flops = 0;
  bool covered;                    // every column of y belongs to a block

  LinearTask(const Tensor& species, at::IntArrayRef numbers, int64_t kinds, int64_t rows,
             int64_t in_dim, int64_t out_dim, int64_t lanes)
      : kinds(kinds) {
    TORCH_CHECK(numbers.size() % 5 == 0 && kinds > 0, "tpcalc::linear: blocks of five numbers and "
                "at least one kind are needed, got ", numbers.size(), " numbers, ", kinds, " kinds");
    int64_t made = 0;
    for (size_t n = 0; n < numbers.size(); n += 5) {
      LinearBlock b{numbers[n], numbers[n + 1], numbers[n + 2], numbers[n + 3], numbers[n + 4],
                    weights, packed};
      TORCH_CHECK(b.from >= 0 && b.to >= 0 && b.dim > 0 && b.in > 0 && b.out > 0 &&
                      b.from + b.dim * b.in <= in_dim && b.to + b.dim * b.out <= out_dim,
                  "tpcalc::linear: block ", n / 5, " (", b.from, ", ", b.to, ", ", b.dim, ", ", b.in,
                  ", ", b.out, ") does not fit ", in_dim, " columns in and ", out_dim, " out");
      blocks.push_back(b);
      made += b.dim * b.out;
      weights += kinds * b.in * b.out;
      packed += kinds * b.in * ((b.out + lanes - 1) / lanes * lanes);
      flops += 2 * b.dim * b.in * b.out;
    }
    covered = made == out_dim;
    sort(species, rows);
  }

  void sort(const Tensor& species, int64_t rows) {
    ends.assign(kinds + 1, 0);
    if (kinds == 1) return void(ends[1] = rows);
    TORCH_CHECK(species.dim() == 1 && species.size(0) == rows && species.is_cpu() &&
                    species.scalar_type() == at::kLong,
                "tpcalc::linear: species must be an int64 CPU vector of ", rows, " nodes, got ",
                species.sizes(), " ", species.scalar_type());
    const Tensor contiguous = species.contiguous();
    const int64_t* z = contiguous.data_ptr<int64_t>();
    for (int64_t n = 0; n < rows; n++) {
      TORCH_CHECK_INDEX(z[n] >= 0 && z[n] < kinds, "tpcalc::linear: species ", z[n], " of node ", n,
                        "; there are matrices of ", kinds);
      ends[z[n] + 1]++;
    }
    for (int64_t k = 0; k < kinds; k++) ends[k + 1] += ends[k];
    order.resize(rows);
    std::vector<int64_t> next(ends.begin(), ends.end() - 1);
    for (int64_t n = 0; n < rows; n++) order[next[z[n]]++] = n;
  }

  Linear linear(const Tensor& x, const void* w, const Tensor& y, int64_t y_dim, double scale) const {
    Linear t{};
    t.x = x.data_ptr(), t.w = w, t.y = y.data_ptr(), t.x_dim = x.size(1), t.y_dim = y_dim;
    t.blocks = blocks.data(), t.num_blocks = static_cast<int64_t>(blocks.size());
    t.kinds = kinds, t.scale = scale, t.ends = ends.data();
    t.order = order.empty() ? nullptr : order.data();
    return t;
  }
};

inline void check_weights(const Tensor& w, int64_t numel, const Tensor& x) {
  TORCH_CHECK(w.dim() == 1 && w.numel() == numel && w.scalar_type() == x.scalar_type() && w.is_cpu(),
              "tpcalc::linear: ", numel, " weights in the dtype of the features (", x.scalar_type(),
              ") are needed, got ", w.sizes(), " ", w.scalar_type());
}

// Every matrix as the kernels read it; with `transposed` the stored one is [out, in]
inline Tensor packed_weights(const LinearTask& t, const Tensor& w, bool transposed) {
  Tensor out = at::empty({t.packed}, w.options());
  const auto pack = step_kernels().pack[w.scalar_type() == at::kDouble];
  const int64_t bytes = w.element_size();
  const char* from = static_cast<const char*>(w.data_ptr());
  char* to = static_cast<char*>(out.data_ptr());
  for (const LinearBlock& b : t.blocks) {
    const int64_t size = b.in * b.out;
    const int64_t step = (&b == &t.blocks.back() ? t.packed : (&b + 1)->packed) - b.packed;
    for (int64_t k = 0; k < t.kinds; k++)
      pack(from + (b.weight + k * size) * bytes, b.in, b.out, transposed,
           to + (b.packed + k * step / t.kinds) * bytes);
  }
  return out;
}

// y = scale x W (+ added), or x W^T with `transposed`, for which blocks give the columns of x and
// y, but channels as W has them the other way round
Tensor linear(const Tensor& x_, const Tensor& w_, const Tensor& species, at::IntArrayRef blocks,
              int64_t kinds, int64_t out_dim, double scale, bool transposed,
              const std::optional<Tensor>& added) {
  check_matrix("linear", "features", x_, x_.dim() == 2 ? x_.size(1) : 0);
  const Tensor x = x_.contiguous(), w = w_.contiguous();
  const bool is_double = x.scalar_type() == at::kDouble;
  const StepKernels& kernels = step_kernels();
  const LinearTask task(species, blocks, kinds, x.size(0), x.size(1), out_dim,
                        kernels.vector_bytes / x.element_size());
  check_weights(w, task.weights, x);
  Tensor y;
  if (added) {
    check_matrix("linear", "what is added", *added, out_dim);
    TORCH_CHECK(added->size(0) == x.size(0) && added->scalar_type() == x.scalar_type(),
                "tpcalc::linear: ", added->sizes(), " ", added->scalar_type(), " cannot be added to ",
                x.size(0), " rows of ", x.scalar_type());
    y = added->clone(at::MemoryFormat::Contiguous);
  } else {
    y = task.covered ? at::empty({x.size(0), out_dim}, x.options())
                     : at::zeros({x.size(0), out_dim}, x.options());
  }
  const Tensor packed = packed_weights(task, w, transposed);
  Linear t = task.linear(x, packed.data_ptr(), y, out_dim, scale);
  t.add = added.has_value();
  over_rows(x.size(0), task.flops,
            [&](int64_t a, int64_t b) { kernels.linear[is_double](t, a, b); });
  return y;
}

// scale x^T g, matrix by matrix: the gradient of the weights of `linear`
Tensor linear_weight(const Tensor& x_, const Tensor& g_, const Tensor& species,
                     at::IntArrayRef blocks, int64_t kinds, double scale) {
  check_matrix("linear_weight", "features", x_, x_.dim() == 2 ? x_.size(1) : 0);
  check_matrix("linear_weight", "the gradient", g_, g_.dim() == 2 ? g_.size(1) : 0);
  TORCH_CHECK(g_.size(0) == x_.size(0) && g_.scalar_type() == x_.scalar_type(),
              "tpcalc::linear_weight: features ", x_.sizes(), " ", x_.scalar_type(),
              " and a gradient ", g_.sizes(), " ", g_.scalar_type());
  const Tensor x = x_.contiguous(), g = g_.contiguous();
  const StepKernels& kernels = step_kernels();
  const int64_t lanes = kernels.vector_bytes / x.element_size();
  const int64_t panel = (kernels.vector_bytes == 64 ? 4 : 2) * lanes;
  const LinearTask task(species, blocks, kinds, x.size(0), x.size(1), g.size(1), lanes);
  Tensor w = at::zeros({task.weights}, x.options());
  Linear t = task.linear(x, g.data_ptr(), w, g.size(1), scale);
  std::vector<LinearItem> items;
  for (int64_t b = 0; b < t.num_blocks; b++)
    for (int64_t k = 0; k < kinds; k++)
      for (int64_t j = 0; j < task.blocks[b].out && task.ends[k] < task.ends[k + 1]; j += panel)
        items.push_back({b, k, j});
  const auto kernel = kernels.linear_weight[x.scalar_type() == at::kDouble];
  at::parallel_for(0, static_cast<int64_t>(items.size()), 1, [&](int64_t a, int64_t b) {
    for (int64_t n = a; n < b; n++) kernel(t, items[n]);
  });
  return w;
}

Tensor linear_meta(const Tensor& x, const Tensor&, const Tensor&, at::IntArrayRef, int64_t,
                   int64_t out_dim, double, bool, const std::optional<Tensor>&) {
  return at::empty({x.size(0), out_dim}, x.options());
}
Tensor linear_weight_meta(const Tensor& x, const Tensor&, const Tensor&, at::IntArrayRef blocks,
                          int64_t kinds, double) {
  int64_t numel = 0;
  for (size_t n = 0; n + 4 < blocks.size(); n += 5) numel += kinds * blocks[n + 3] * blocks[n + 4];
  return at::empty({numel}, x.options());
}

// --- derivatives: `linear` is bilinear, its derivatives are these two ops again

struct LinearShape {               // what the derivatives need beside the operands
  std::vector<int64_t> blocks;
  int64_t kinds, in_dim, out_dim;
  double scale;
  bool transposed;

  void save(AutogradContext* ctx) const {
    ctx->saved_data["blocks"] = blocks;
    ctx->saved_data["numbers"] = std::vector<int64_t>{kinds, in_dim, out_dim, transposed};
    ctx->saved_data["scale"] = scale;
  }
  static LinearShape saved(AutogradContext* ctx) {
    const auto n = ctx->saved_data["numbers"].toIntVector();
    return {ctx->saved_data["blocks"].toIntVector(), n[0], n[1], n[2],
            ctx->saved_data["scale"].toDouble(), n[3] != 0};
  }
  // The map of gradients: columns of y to columns of x
  LinearShape reversed() const {
    LinearShape r{blocks, kinds, out_dim, in_dim, scale, !transposed};
    for (size_t n = 0; n < r.blocks.size(); n += 5)
      std::swap(r.blocks[n], r.blocks[n + 1]), std::swap(r.blocks[n + 3], r.blocks[n + 4]);
    return r;
  }
  Tensor apply(const Tensor& x, const Tensor& w, const Tensor& species) const {
    static const auto op = typed<decltype(linear)>("tpcalc::linear");
    return op.call(x, w, species, blocks, kinds, out_dim, scale, transposed, std::nullopt);
  }
  // d(g . apply(x, w)) / dw, in the layout of w
  Tensor weight(const Tensor& x, const Tensor& g, const Tensor& species) const {
    static const auto op = typed<decltype(linear_weight)>("tpcalc::linear_weight");
    if (!transposed) return op.call(x, g, species, blocks, kinds, scale);
    return op.call(g, x, species, reversed().blocks, kinds, scale);
  }
};

struct LinearFunction : Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& w,
                        const Tensor& species, at::IntArrayRef blocks, int64_t kinds,
                        int64_t out_dim, double scale, bool transposed,
                        const std::optional<Tensor>& added) {
    at::AutoDispatchBelowADInplaceOrView guard;
    LinearShape{blocks.vec(), kinds, x.size(1), out_dim, scale, transposed}.save(ctx);
    ctx->save_for_backward({x, w, species});
    ctx->saved_data["added"] = added.has_value();
    static const auto op = typed<decltype(linear)>("tpcalc::linear");
    return op.call(x, w, species, blocks, kinds, out_dim, scale, transposed, added);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const LinearShape shape = LinearShape::saved(ctx);
    variable_list grads(9);
    if (ctx->needs_input_grad(0)) grads[0] = shape.reversed().apply(g[0], s[1], s[2]);
    if (ctx->needs_input_grad(1)) grads[1] = shape.weight(s[0], g[0], s[2]);
    if (ctx->saved_data["added"].toBool()) grads[8] = g[0];
    return grads;
  }
};

struct LinearWeightFunction : Function<LinearWeightFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& g,
                        const Tensor& species, at::IntArrayRef blocks, int64_t kinds,
                        double scale) {
    at::AutoDispatchBelowADInplaceOrView guard;
    LinearShape{blocks.vec(), kinds, x.size(1), g.size(1), scale, false}.save(ctx);
    ctx->save_for_backward({x, g, species});
    static const auto op = typed<decltype(linear_weight)>("tpcalc::linear_weight");
    return op.call(x, g, species, blocks, kinds, scale);
  }
  static variable_list backward(AutogradContext* ctx, variable_list t) {
    const auto s = ctx->get_saved_variables();
    const LinearShape shape = LinearShape::saved(ctx);
    variable_list grads(6);
    if (ctx->needs_input_grad(0)) grads[0] = shape.reversed().apply(s[1], t[0], s[2]);
    if (ctx->needs_input_grad(1)) grads[1] = shape.apply(s[0], t[0], s[2]);
    return grads;
  }
};

Tensor linear_autograd(const Tensor& x, const Tensor& w, const Tensor& species,
                       at::IntArrayRef blocks, int64_t kinds, int64_t out_dim, double scale,
                       bool transposed, const std::optional<Tensor>& added) {
  return LinearFunction::apply(x, w, species, blocks, kinds, out_dim, scale, transposed, added);
}
Tensor linear_weight_autograd(const Tensor& x, const Tensor& g, const Tensor& species,
                              at::IntArrayRef blocks, int64_t kinds, double scale) {
  return LinearWeightFunction::apply(x, g, species, blocks, kinds, scale);
}

}  // namespace
}  // namespace tpcalc
