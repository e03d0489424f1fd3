// A network without biases on many rows: its hidden layers never leave the cache.
#pragma once
#include <cmath>
#include <optional>
#include <vector>

#include "activation.h"
#include "gemm.h"
#include "step_abi.h"

namespace tpcalc {
namespace TPCALC_ISA {

constexpr int64_t kMlpRows = 96;

// The layers of one piece of rows: before the activation (z) and after it (a)
template <class T> class MlpChunk {
 public:
  MlpChunk(const Mlp& net, bool keep) : net_(net) {
    int64_t total = 0;
    for (int64_t n = 1; n < net.layers; n++) {
      offset_.push_back(total);
      total += kMlpRows * padded<T>(net.sizes[n]);
    }
    a_.emplace(total);
    if (keep) z_.emplace(total), g_.emplace(total);
  }

  // Hidden layers from rows first .. first + rows of x
  void hidden(int64_t first, int64_t rows) {
    rows_ = rows;
    for (int64_t r = 0; r < rows; r++)
      in_[r] = static_cast<const T*>(net_.x) + (first + r) * net_.sizes[0];
    for (int64_t n = 1; n < net_.layers; n++) {
      T* a = a_->data() + offset_[n - 1];
      T* z = z_ ? z_->data() + offset_[n - 1] : a;
      const int64_t width = padded<T>(net_.sizes[n]);
      for (int64_t r = 0; r < rows; r++) out_[r] = z + r * width;
      step(n - 1, out_);
      activate(z, a, rows * width);
      for (int64_t r = 0; r < rows; r++) in_[r] = a + r * width;
    }
  }
  void output(int64_t first) {
    const int64_t columns = net_.sizes[net_.layers];
    for (int64_t r = 0; r < rows_; r++) out_[r] = static_cast<T*>(net_.y) + (first + r) * columns;
    step(net_.layers - 1, out_);
    if (net_.envelope) scale_rows(first, columns);
  }
  // gx of these rows (and the gradient of their factors) from g, after `hidden`
  void backward(int64_t first) {
    for (int64_t r = 0; r < rows_; r++)
      in_[r] = static_cast<const T*>(net_.g) + (first + r) * net_.sizes[net_.layers];
    for (int64_t n = net_.layers - 1; n >= 0; n--) {
      T* g = n ? g_->data() + offset_[n - 1] : static_cast<T*>(net_.gx) + first * net_.sizes[0];
      const int64_t width = n ? padded<T>(net_.sizes[n]) : net_.sizes[0];
      for (int64_t r = 0; r < rows_; r++) out_[r] = g + r * width;
      multiply<T>(in_, out_, rows_, static_cast<const T*>(net_.transposed[n]), net_.sizes[n + 1],
                  net_.sizes[n], scale(n), false);
      if (net_.envelope && n == net_.layers - 1) {
        factors(first);
        scale_rows(first, net_.sizes[n]);
      }
      if (n) slope(z_->data() + offset_[n - 1], g, rows_ * width);
      for (int64_t r = 0; r < rows_; r++) in_[r] = g + r * width;
    }
  }

 private:
  T scale(int64_t n) const { return static_cast<T>(1 / std::sqrt(double(net_.sizes[n]))); }
  void step(int64_t n, T* const* to) {
    multiply<T>(in_, to, rows_, static_cast<const T*>(net_.packed[n]), net_.sizes[n],
                net_.sizes[n + 1], scale(n), false);
  }
  // Rows of out_ times their factors
  void scale_rows(int64_t first, int64_t columns) {
    const T* envelope = static_cast<const T*>(net_.envelope) + first;
    for (int64_t r = 0; r < rows_; r++)
      for (int64_t k = 0; k < columns; k++) out_[r][k] *= envelope[r];
  }
  // Gradients of the factors: what the last matrix saw times what came back through it (out_)
  void factors(int64_t first) {
    const int64_t n = net_.layers - 1, columns = net_.sizes[n], width = padded<T>(columns);
    for (int64_t r = 0; r < rows_; r++) {
      const T* seen = n ? a_->data() + offset_[n - 1] + r * width
                        : static_cast<const T*>(net_.x) + (first + r) * columns;
      Vec<T> sums = {};
      int64_t k = 0;
      for (; k + lanes<T> <= columns; k += lanes<T>) sums += load<T>(seen + k) * load<T>(out_[r] + k);
      T sum = 0;
      for (int i = 0; i < lanes<T>; i++) sum += sums[i];
      for (; k < columns; k++) sum += seen[k] * out_[r][k];
      static_cast<T*>(net_.genvelope)[first + r] = sum;
    }
  }
  void activate(const T* z, T* a, int64_t n) const {
    const Vec<T> norm = broadcast<T>(static_cast<T>(net_.norm));
    for (int64_t i = 0; i < n; i += lanes<T>) {
      const Vec<T> v = load<T>(z + i);
      store<T>(a + i, v * sigmoid<T>(v) * norm);
    }
  }
  void slope(const T* z, T* g, int64_t n) const {
    const Vec<T> norm = broadcast<T>(static_cast<T>(net_.norm));
    for (int64_t i = 0; i < n; i += lanes<T>) {
      const Vec<T> v = load<T>(z + i);
      store<T>(g + i, load<T>(g + i) * silu_slope<T>(v, sigmoid<T>(v)) * norm);
    }
  }

  const Mlp& net_;
  std::vector<int64_t> offset_;
  std::optional<Buffer<T>> a_, z_, g_;
  const T* in_[kMlpRows];
  T* out_[kMlpRows];
  int64_t rows_ = 0;
};

template <class T> void mlp(const Mlp& net, int64_t first, int64_t last) {
  MlpChunk<T> chunk(net, false);
  for (int64_t at = first; at < last; at += kMlpRows) {
    chunk.hidden(at, std::min(kMlpRows, last - at));
    chunk.output(at);
  }
}

template <class T> void mlp_backward(const Mlp& net, int64_t first, int64_t last) {
  MlpChunk<T> chunk(net, true);
  for (int64_t at = first; at < last; at += kMlpRows) {
    chunk.hidden(at, std::min(kMlpRows, last - at));
    chunk.backward(at);
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
