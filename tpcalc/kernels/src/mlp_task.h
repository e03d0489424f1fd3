// A network's arguments, checked and packed for its kernels.
#pragma once
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>

#include <cmath>
#include <optional>
#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

using MaybeTensor = std::optional<Tensor>;

// By torch's ops: for training, and for derivatives of derivatives
inline Tensor mlp_by_ops(Tensor x, at::TensorList weights, double norm,
                         const MaybeTensor& envelope) {
  for (size_t n = 0; n < weights.size(); n++) {
    if (n + 1 == weights.size() && envelope) x = at::mul(x, *envelope);
    x = at::matmul(x, at::mul(weights[n], 1 / std::sqrt(double(weights[n].size(0)))));
    if (n + 1 < weights.size()) x = at::mul(at::silu(x), norm);
  }
  return x;
}

// Checked arguments and packed matrices
struct MlpTask {
  Tensor x, envelope;
  std::vector<Tensor> packed, transposed;
  std::vector<const void*> pointers, transposed_pointers;
  std::vector<int64_t> sizes;
  int64_t flops = 0;
  Mlp net{};

  MlpTask(const char* op, const Tensor& x_, at::TensorList weights, double norm,
          const MaybeTensor& envelope_, bool backward)
      : x(x_.contiguous()) {
    TORCH_CHECK(!weights.empty(), "tpcalc::", op, ": no matrices");
    check_matrix(op, "rows", x, weights[0].dim() == 2 ? weights[0].size(0) : 0);
    sizes.push_back(x.size(1));
    for (const Tensor& w : weights) {
      TORCH_CHECK(w.dim() == 2 && w.size(0) == sizes.back() && w.size(0) > 0 && w.size(1) > 0 &&
                      w.scalar_type() == x.scalar_type() && w.is_cpu(),
                  "tpcalc::", op, ": a matrix of ", sizes.back(), " rows in the dtype of x (",
                  x.scalar_type(), ") is needed, got ", w.sizes(), " ", w.scalar_type());
      sizes.push_back(w.size(1));
      flops += 2 * w.numel();
      packed.push_back(pack(w, false));
      if (backward) transposed.push_back(pack(w, true));
    }
    if (envelope_) {
      check_matrix(op, "the factors of rows", *envelope_, 1);
      TORCH_CHECK(envelope_->size(0) == x.size(0) && envelope_->scalar_type() == x.scalar_type(),
                  "tpcalc::", op, ": factors ", envelope_->sizes(), " ", envelope_->scalar_type(),
                  " of rows ", x.sizes(), " ", x.scalar_type());
      envelope = envelope_->contiguous();
      net.envelope = envelope.data_ptr();
    }
    for (const Tensor& p : packed) pointers.push_back(p.data_ptr());
    for (const Tensor& p : transposed) transposed_pointers.push_back(p.data_ptr());
    net.x = x.data_ptr(), net.layers = static_cast<int64_t>(weights.size());
    net.sizes = sizes.data(), net.norm = norm;
    net.packed = pointers.data(), net.transposed = transposed_pointers.data();
  }
  static Tensor pack(const Tensor& w_, bool transposed) {
    const Tensor w = w_.contiguous();
    const StepKernels& kernels = step_kernels();
    const int64_t lanes = kernels.vector_bytes / w.element_size();
    const int64_t k = w.size(transposed), n = w.size(!transposed);
    Tensor out = at::empty({k * ((n + lanes - 1) / lanes * lanes)}, w.options());
    kernels.pack[w.scalar_type() == at::kDouble](w.data_ptr(), k, n, transposed, out.data_ptr());
    return out;
  }
  bool is_double() const { return x.scalar_type() == at::kDouble; }
  int64_t columns() const { return sizes.back(); }

  // Rows from .. to of y (its row 0 would stand at `row_zero`)
  void forward(int64_t from, int64_t to, void* row_zero) {
    net.y = row_zero;
    const auto kernel = step_kernels().mlp[is_double()];
    over_rows(to - from, flops, [&](int64_t a, int64_t b) { kernel(net, from + a, from + b); });
  }
  // Rows from .. to of gx and of the factors' gradient; g as y above
  void backward(int64_t from, int64_t to, const void* row_zero, Tensor& gx, Tensor& genvelope) {
    net.g = row_zero, net.gx = gx.data_ptr(), net.genvelope = genvelope.data_ptr();
    const auto kernel = step_kernels().mlp_backward[is_double()];
    over_rows(to - from, 2 * flops, [&](int64_t a, int64_t b) { kernel(net, from + a, from + b); });
  }
  // Room for the gradient of the factors
  Tensor genvelope() const { return at::empty({envelope.defined() ? x.size(0) : 0, 1}, x.options()); }
};

}  // namespace
}  // namespace tpcalc
