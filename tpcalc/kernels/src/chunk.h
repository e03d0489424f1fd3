// The edges a kernel works on at a time, and their M matrices.
#pragma once
#include "shapes.h"

namespace tpcalc {
namespace TPCALC_ISA {

// kEdges edges in the order of their receivers; they may belong to several receivers
struct Chunk {
  int64_t begin, edge[kEdges], sender[kEdges], receiver[kEdges];
  int n;

  // returns the receiver of the last edge, to go on from
  int64_t fill(const Graph& graph, int64_t from, int64_t end, int64_t at) {
    begin = from;
    n = static_cast<int>(std::min<int64_t>(kEdges, end - from));
    for (int e = 0; e < n; e++) {
      while (graph.row_ptr[at + 1] <= from + e) at++;
      edge[e] = graph.order ? graph.order[from + e] : from + e;
      sender[e] = graph.senders[edge[e]];
      receiver[e] = at;
    }
    return at;
  }
};

// M [num_m][kEdges] of a chunk from y; entries without a coupling stay zero
template <class T> struct Matrices {
  Buffer<T> m, yt;
  int64_t y_dim;

  Matrices(const Plan& plan, int64_t y_dim)
      : m(plan.num_m * kEdges + lanes<T>), yt(y_dim * kEdges + lanes<T>), y_dim(y_dim) {}

  void build(const Plan& plan, const Chunk& chunk, const T* y, int64_t y_step) {
    for (int e = 0; e < kEdges; e++) {
      const T* row = y + (e < chunk.n ? chunk.edge[e] : chunk.edge[0]) * y_step;
      for (int64_t j = 0; j < y_dim; j++) yt.data()[j * kEdges + e] = row[j];
    }
    const T* coef = static_cast<const T*>(plan.coef);
    for (int r = 0; r < plan.num_rows; r++) build_row(plan, r, coef);
  }

 private:
  void build_row(const Plan& plan, int r, const T* coef) {
    constexpr int K = kEdges / lanes<T>;
    const Row& row = plan.rows[r];
    T* out = m.data() + static_cast<int64_t>(plan.m_offset[r]) * kEdges;
    for (int n = row.nz_begin; n < row.nz_end;) {
      const int entry = plan.couplings[n].entry;
      Vec<T> sum[K] = {};
      for (; n < row.nz_end && plan.couplings[n].entry == entry; n++) {
        const T* y = yt.data() + plan.couplings[n].column * kEdges;
        const Vec<T> c = broadcast<T>(coef[n]);
        for (int k = 0; k < K; k++) sum[k] += c * load<T>(y + k * lanes<T>);
      }
      for (int k = 0; k < K; k++) store<T>(out + entry * kEdges + k * lanes<T>, sum[k]);
    }
  }
};

}  // namespace TPCALC_ISA
}  // namespace tpcalc
