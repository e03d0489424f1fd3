// out_i[k, c] = sum over the edges of receiver i of w[c] sum_a M[a, k] h[a, c]
#pragma once
#include "ahead.h"
#include "radial.h"

namespace tpcalc {
namespace TPCALC_ISA {

// Edges of one receiver inside a chunk, one row, channels from c0 on
template <class T> struct ForwardSpan {
  const T* const* h;
  const T* const* w;
  const T* m;
  int n;
  T* out;
  bool fresh;  // store instead of add
};

// NV vectors of channels; the sums stay in registers over all edges of the span
template <class T, int D1, int D3, uint64_t MASK, int NV>
void forward_block(const Row& row, const ForwardSpan<T>& s, int c0) {
  constexpr int L = lanes<T>;
  // several partial sums where few outputs would leave the multiply-add waiting for itself
  constexpr int S = D1 == 1 ? 1 : D3 == 1 ? (D1 < 4 ? D1 : 4) : D3 == 3 && registers > 16 ? 2 : 1;
  Vec<T> sum[S][D3][NV] = {};
  const int64_t hs = row.h_stride, os = row.out_stride;
  T* out = s.out + row.out_offset + c0;
  if (!s.fresh)
    TPCALC_UNROLL for (int k = 0; k < D3; k++)
      TPCALC_UNROLL for (int v = 0; v < NV; v++) sum[0][k][v] = load<T>(out + k * os + v * L);
  for (int e = 0; e < s.n; e++) {
    const T* h = s.h[e] + row.h_offset + c0;
    const T* w = s.w[e] + row.w_offset + c0;
    const T* m = s.m + e;
    Vec<T> wv[NV];
    TPCALC_UNROLL for (int v = 0; v < NV; v++) wv[v] = load<T>(w + v * L);
    TPCALC_UNROLL for (int i = 0; i < D1; i++) {
      if (!row_on<D3, MASK>(i)) continue;
      Vec<T> hw[NV];
      TPCALC_UNROLL for (int v = 0; v < NV; v++) hw[v] = load<T>(h + i * hs + v * L) * wv[v];
      TPCALC_UNROLL for (int k = 0; k < D3; k++)
        if (on<D3, MASK>(i, k)) {
          const Vec<T> mv = broadcast<T>(m[(i * D3 + k) * kEdges]);
          TPCALC_UNROLL for (int v = 0; v < NV; v++) sum[i % S][k][v] += mv * hw[v];
        }
    }
  }
  TPCALC_UNROLL for (int k = 0; k < D3; k++)
    TPCALC_UNROLL for (int v = 0; v < NV; v++) {
      Vec<T> total = sum[0][k][v];
      TPCALC_UNROLL for (int p = 1; p < S; p++) total += sum[p][k][v];
      store<T>(out + k * os + v * L, total);
    }
}

// Channels from c0 on, any number
template <class T> void forward_any(const Row& row, const ForwardSpan<T>& s, int c0) {
  const int n = row.channels - c0;
  T* out = s.out + row.out_offset + c0;
  if (s.fresh)
    for (int k = 0; k < row.d3; k++) std::fill_n(out + int64_t(k) * row.out_stride, n, T(0));
  for (int e = 0; e < s.n; e++) {
    const T* w = s.w[e] + row.w_offset + c0;
    for (int i = 0; i < row.d1; i++) {
      const T* h = s.h[e] + row.h_offset + int64_t(i) * row.h_stride + c0;
      for (int k = 0; k < row.d3; k++) {
        const T m = s.m[(i * row.d3 + k) * kEdges + e];
        if (m == T(0)) continue;
        T* o = out + int64_t(k) * row.out_stride;
        for (int c = 0; c < n; c++) o[c] += m * w[c] * h[c];
      }
    }
  }
}

template <class T> using ForwardBlock = void (*)(const Row&, const ForwardSpan<T>&, int);
template <class T> constexpr ForwardBlock<T> forward_wide[] = {
#define X(d1, d3, mask) forward_block<T, d1, d3, mask, (d3 > 5 && registers == 16) ? 1 : 2>,
#include "masks.inc"
#undef X
};
template <class T> constexpr ForwardBlock<T> forward_narrow[] = {
#define X(d1, d3, mask) forward_block<T, d1, d3, mask, 1>,
#include "masks.inc"
#undef X
};

// channels [c0, c0 + 2 lanes) of one row
template <class T> inline void forward_row(const Plan& plan, int r, const ForwardSpan<T>& s, int c0) {
  constexpr int L = lanes<T>;
  const Row& row = plan.rows[r];
  const int shape = plan.kernel[r];
  const int left = row.channels - c0;
  const bool wide_is_two = !(row.d3 > 5 && registers == 16);
  if (left >= 2 * L && wide_is_two) return forward_wide<T>[shape](row, s, c0);
  if (left >= L) forward_narrow<T>[shape](row, s, c0);
  if (left >= 2 * L) return forward_narrow<T>[shape](row, s, c0 + L);
  if (left % L) forward_any<T>(row, s, c0 + (left >= L ? L : 0));
}

// The edges of one receiver among those of a chunk
struct Run {
  int begin, n;
  int64_t receiver;
  bool first;  // the receiver has no edges before these
};

inline int find_runs(const Chunk& chunk, const Graph& graph, Run* runs) {
  int found = 0;
  for (int s = 0, t; s < chunk.n; s = t) {
    const int64_t i = chunk.receiver[s];
    for (t = s + 1; t < chunk.n && chunk.receiver[t] == i;) t++;
    runs[found++] = {s, t - s, i, chunk.begin + s == graph.row_ptr[i]};
  }
  return found;
}

template <class T> void forward(const Plan& plan, const Graph& graph, const Forward& f) {
  constexpr int W = 2 * lanes<T>;
  const T *h = static_cast<const T*>(f.h), *y = static_cast<const T*>(f.y);
  const T* w = static_cast<const T*>(f.w);
  T* out = static_cast<T*>(f.out);
  Matrices<T> matrices(plan, f.y_dim);
  RadialChunk<T> radial(f.radial, f.w_dim);
  Chunk chunk;
  Run runs[kEdges];
  const T *hp[kEdges], *wp[kEdges];
  const int64_t end = graph.row_ptr[graph.last];
  int64_t at = graph.first, steps = 0;
  for (int r = 0; r < plan.num_rows; r++) steps += (plan.rows[r].channels + W - 1) / W;
  for (int64_t i = graph.first; i < graph.last; i++)
    if (graph.row_ptr[i] == graph.row_ptr[i + 1]) std::fill_n(out + i * f.out_dim, f.out_dim, T(0));
  for (int64_t from = graph.row_ptr[graph.first]; from < end; from += kEdges) {
    at = chunk.fill(graph, from, end, at);
    for (int e = 0; e < chunk.n; e++) {
      hp[e] = h + chunk.sender[e] * f.h_dim;
      wp[e] = w ? w + chunk.edge[e] * f.w_dim : radial.weights(e);
    }
    if (!w) radial.evaluate(chunk);
    matrices.build(plan, chunk, y, f.y_dim);
    const int num_runs = find_runs(chunk, graph, runs);
    const int64_t next = from + chunk.n, then = std::min<int64_t>(next + kEdges, end);
    Ahead<T> weights(graph, w, f.w_dim, next, then, steps);
    int64_t receivers = at + 1;  // [at + 1, receivers): those that begin in the next chunk
    while (receivers < graph.last && graph.row_ptr[receivers] < then) receivers++;
    for (int c0 = 0; c0 < plan.max_channels; c0 += W)
      for (int r = 0; r < plan.num_rows; r++) {
        const Row& row = plan.rows[r];
        if (c0 >= row.channels) continue;
        weights.step();
        for (int64_t i = at + 1; i < receivers; i++)
          for (int k = 0; k < row.d3 && plan.writes_out[r]; k++)
            prefetch_to_write<T>(out + i * f.out_dim + row.out_offset + k * row.out_stride + c0, W);
        const T* m = matrices.m.data() + int64_t(plan.m_offset[r]) * kEdges;
        for (int q = 0; q < num_runs; q++) {
          const Run& run = runs[q];
          const int s = run.begin;
          forward_row<T>(plan, r,
                         {hp + s, wp + s, m + s, run.n, out + run.receiver * f.out_dim,
                          plan.writes_out[r] && run.first},
                         c0);
        }
      }
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
