// One matrix per irrep (and kind of node): y[n, k, :] = scale x[n, k, :] W.
#pragma once
#include <vector>

#include "gemm.h"
#include "step_abi.h"

namespace tpcalc {
namespace TPCALC_ISA {

template <class T> void linear(const Linear& t, int64_t first, int64_t last) {
  constexpr int kNodes = 48;
  std::vector<const T*> a;
  std::vector<T*> c;
  for (int64_t b = 0; b < t.num_blocks; b++) {
    const LinearBlock& block = t.blocks[b];
    const T* w = static_cast<const T*>(t.w) + block.packed;
    const int64_t size = block.in * padded<T>(block.out);
    a.resize(kNodes * block.dim), c.resize(kNodes * block.dim);
    for (int64_t kind = 0; kind < t.kinds; kind++) {
      const int64_t end = std::min(last, t.ends[kind + 1]);
      for (int64_t from = std::max(first, t.ends[kind]); from < end; from += kNodes) {
        const int64_t nodes = std::min<int64_t>(kNodes, end - from);
        for (int64_t n = 0, row = 0; n < nodes; n++) {
          const int64_t node = t.order ? t.order[from + n] : from + n;
          const T* x = static_cast<const T*>(t.x) + node * t.x_dim + block.from;
          T* y = static_cast<T*>(t.y) + node * t.y_dim + block.to;
          for (int64_t k = 0; k < block.dim; k++, row++)
            a[row] = x + k * block.in, c[row] = y + k * block.out;
        }
        multiply<T>(a.data(), c.data(), nodes * block.dim, w + kind * size, block.in, block.out,
                    static_cast<T>(t.scale), t.add);
      }
    }
  }
}

// Columns `column`.. (at most one panel) of one matrix: gW = scale sum over rows of x^T g
template <class T> void linear_weight(const Linear& t, const LinearItem& item) {
  constexpr int64_t kRows = 256, MR = kTileRows;
  const LinearBlock& block = t.blocks[item.block];
  const int64_t columns = std::min<int64_t>(tile_columns<T>, block.out - item.column);
  const int64_t width = padded<T>(columns), tiles = (block.in + MR - 1) / MR;
  Buffer<T> xs(tiles * kRows * MR), gs(kRows * width);
  T* w = static_cast<T*>(t.y) + block.weight + item.kind * block.in * block.out;
  bool add = false;
  const int64_t begin = t.ends[item.kind] * block.dim, end = t.ends[item.kind + 1] * block.dim;
  for (int64_t from = begin; from < end; from += kRows, add = true) {
    const int64_t rows = std::min<int64_t>(kRows, end - from);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = (from + r) / block.dim, k = (from + r) % block.dim;
      const int64_t node = t.order ? t.order[at] : at;
      const T* x = static_cast<const T*>(t.x) + node * t.x_dim + block.from + k * block.in;
      const T* g = static_cast<const T*>(t.w) + node * t.y_dim + block.to + k * block.out;
      std::copy_n(g + item.column, columns, gs.data() + r * width);
      for (int64_t i = 0; i < block.in; i++) xs.data()[(i / MR * kRows + r) * MR + i % MR] = x[i];
    }
    for (int64_t i = 0; i < block.in; i += MR) {
      const T* a[MR];
      T* c[MR];
      const int count = static_cast<int>(std::min<int64_t>(MR, block.in - i));
      for (int r = 0; r < count; r++)
        a[r] = xs.data() + i * kRows + r, c[r] = w + (i + r) * block.out;
      multiply_panel<T>({a, MR, gs.data(), rows, static_cast<T>(t.scale), add, c, item.column,
                         columns}, count);
    }
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
