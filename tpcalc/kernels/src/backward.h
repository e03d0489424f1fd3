// First derivatives. With t[a, c] = sum_k M[a, k] g[k, c]:
//   gw[c] = sum_a h[a, c] t[a, c],  gh[a, c] += w[c] t[a, c],  gM[a, k] = sum_c w[c] h[a, c] g[k, c]
#pragma once
#include "radial.h"

namespace tpcalc {
namespace TPCALC_ISA {

// What every edge of a chunk needs; arrays are indexed by the edge within the chunk
template <class T> struct BackwardSpan {
  const T *g[kEdges], *h[kEdges], *w[kEdges];
  T *gh[kEdges], *gw[kEdges];
};

// gM of one edge and row before its lanes are summed, and gy = sum_M coef gM, also by lanes:
// the couplings shrink many entries of M to few y, so that few sums over lanes remain.
template <class T> struct LaneSums {
  int64_t y_dim, padded;
  Buffer<T> entries, columns;

  LaneSums(const Plan& plan, int64_t y_dim)
      : y_dim(y_dim),
        padded((y_dim + lanes<T> - 1) / lanes<T> * lanes<T>),
        entries(int64_t(plan.num_m) * lanes<T>),
        columns(kEdges * padded * lanes<T>) {}

  void clear(int n) { std::fill_n(columns.data(), n * padded * lanes<T>, T(0)); }

  TPCALC_INLINE void add(const Plan& plan, const Row& row, int e) {
    constexpr int L = lanes<T>;
    const T* coef = static_cast<const T*>(plan.coef_by_column);
    T* out = columns.data() + e * padded * L;
    for (int n = row.nz_begin; n < row.nz_end;) {
      const int column = plan.by_column[n].column;
      Vec<T> sum = load<T>(out + column * L);
      for (; n < row.nz_end && plan.by_column[n].column == column; n++)
        sum += broadcast<T>(coef[n]) * load<T>(entries.data() + plan.by_column[n].entry * L);
      store<T>(out + column * L, sum);
    }
  }
  void write(const Chunk& chunk, T* gy) {
    constexpr int L = lanes<T>;
    T part[L];
    for (int e = 0; e < chunk.n; e++)
      for (int64_t j = 0; j < padded; j += L) {
        sum_lanes<T>(columns.data() + (e * padded + j) * L, part);
        std::copy_n(part, std::min<int64_t>(L, y_dim - j), gy + chunk.edge[e] * y_dim + j);
      }
  }
};

constexpr int backward_rows(int d1, int d3) {
  const int r = registers == 32 ? (d3 == 1 ? 7 : d3 == 3 ? 4 : d3 == 5 ? 3 : 2)
                                : (d3 == 1 ? 7 : d3 == 3 ? 3 : d3 == 5 ? 2 : 1);
  return r < d1 ? r : d1;
}

// Rows I .. I+R-1 of M at once, then the rest
template <class T, int D1, int D3, uint64_t MASK, int I>
TPCALC_INLINE void backward_edge(const Row& row, const T* __restrict__ g, const T* __restrict__ h,
                                 const T* __restrict__ w, T* __restrict__ gh, T* __restrict__ gw,
                                 const T* m, T* entries, int channels, bool fresh_w) {
  if constexpr (I < D1) {
    constexpr int L = lanes<T>, R = std::min(backward_rows(D1, D3), D1 - I);
    const int64_t hs = row.h_stride, os = row.out_stride;
    Vec<T> a[R][D3] = {};
    for (int c = 0; c < channels; c += L) {
      Vec<T> gv[D3], gwv = {};
      const Vec<T> wv = load<T>(w + c);
      TPCALC_UNROLL for (int k = 0; k < D3; k++) gv[k] = load<T>(g + k * os + c);
      TPCALC_UNROLL for (int r = 0; r < R; r++) {
        const int i = I + r;
        if (!row_on<D3, MASK>(i)) continue;
        const Vec<T> hv = load<T>(h + i * hs + c), wh = wv * hv;
        Vec<T> t = {};
        TPCALC_UNROLL for (int k = 0; k < D3; k++)
          if (on<D3, MASK>(i, k)) {
            t += broadcast<T>(m[(i * D3 + k) * kEdges]) * gv[k];
            a[r][k] += wh * gv[k];
          }
        gwv += hv * t;
        T* q = gh + i * hs + c;
        store<T>(q, load<T>(q) + wv * t);
      }
      if (I > 0 || !fresh_w) gwv += load<T>(gw + c);
      store<T>(gw + c, gwv);
    }
    TPCALC_UNROLL for (int r = 0; r < R; r++)
      TPCALC_UNROLL for (int k = 0; k < D3; k++)
        if (on<D3, MASK>(I + r, k)) store<T>(entries + ((I + r) * D3 + k) * L, a[r][k]);
    backward_edge<T, D1, D3, MASK, I + R>(row, g, h, w, gh, gw, m, entries, channels, fresh_w);
  }
}

// Channels from c0 on; adds to the first lane of `entries`
template <class T>
void backward_any(const Row& row, const T* g, const T* h, const T* w, T* gh, T* gw, const T* m,
                  T* entries, int c0, bool fresh_w) {
  const int64_t hs = row.h_stride, os = row.out_stride;
  if (fresh_w) std::fill_n(gw + c0, row.channels - c0, T(0));
  for (int i = 0; i < row.d1; i++)
    for (int k = 0; k < row.d3; k++) {
      const T mv = m[(i * row.d3 + k) * kEdges];
      const T *hi = h + i * hs, *gk = g + k * os;
      T* ghi = gh + i * hs;
      T sum = 0;
      for (int c = c0; c < row.channels; c++) {
        const T t = mv * gk[c];
        gw[c] += hi[c] * t;
        ghi[c] += w[c] * t;
        sum += w[c] * hi[c] * gk[c];
      }
      entries[(i * row.d3 + k) * lanes<T>] += sum;
    }
}

template <class T> struct BackwardWork {
  const Plan& plan;
  const BackwardSpan<T>& span;
  LaneSums<T>& sums;
  const T* m;
  int r, n;
};

template <class T, int D1, int D3, uint64_t MASK> void backward_row(const BackwardWork<T>& k) {
  const Row& row = k.plan.rows[k.r];
  const int whole = row.channels / lanes<T> * lanes<T>;
  const bool fresh = k.plan.writes_w[k.r];
  const BackwardSpan<T>& s = k.span;
  T* entries = k.sums.entries.data();
  for (int e = 0; e < k.n; e++) {
    const T *g = s.g[e] + row.out_offset, *h = s.h[e] + row.h_offset, *w = s.w[e] + row.w_offset;
    T *gh = s.gh[e] + row.h_offset, *gw = s.gw[e] + row.w_offset;
    backward_edge<T, D1, D3, MASK, 0>(row, g, h, w, gh, gw, k.m + e, entries, whole, fresh);
    if (whole < row.channels) backward_any<T>(row, g, h, w, gh, gw, k.m + e, entries, whole, fresh);
    k.sums.add(k.plan, row, e);
  }
}

template <class T> using BackwardRow = void (*)(const BackwardWork<T>&);
template <class T> constexpr BackwardRow<T> backward_shapes[] = {
#define X(d1, d3, mask) backward_row<T, d1, d3, mask>,
#include "masks.inc"
#undef X
};

template <class T> void backward(const Plan& plan, const Graph& graph, const Backward& b) {
  const T *g = static_cast<const T*>(b.g), *h = static_cast<const T*>(b.h);
  const T *y = static_cast<const T*>(b.y), *w = static_cast<const T*>(b.w);
  T *gh = static_cast<T*>(b.gh), *gy = static_cast<T*>(b.gy), *gw = static_cast<T*>(b.gw);
  Matrices<T> matrices(plan, b.y_dim);
  LaneSums<T> sums(plan, b.y_dim);
  RadialChunk<T> radial(b.radial, b.w_dim);
  Buffer<T> unused(std::max(b.h_dim, b.w_dim));  // where gradients nobody wants go
  Chunk chunk;
  BackwardSpan<T> span;
  const int64_t end = graph.row_ptr[graph.last];
  int64_t at = graph.first;
  for (int64_t from = graph.row_ptr[graph.first]; from < end; from += kEdges) {
    at = chunk.fill(graph, from, end, at);
    for (int e = 0; e < chunk.n; e++) {
      span.g[e] = g + chunk.receiver[e] * b.out_dim;
      span.h[e] = h + chunk.sender[e] * b.h_dim;
      span.w[e] = w ? w + chunk.edge[e] * b.w_dim : radial.weights(e);
      span.gh[e] = gh ? gh + chunk.sender[e] * b.h_dim : unused.data();
      span.gw[e] = gw ? gw + chunk.edge[e] * b.w_dim : b.gr ? radial.gradient(e) : unused.data();
    }
    if (!w) radial.evaluate(chunk);
    if (b.gr && plan.zero_w) radial.clear_gradient();
    matrices.build(plan, chunk, y, b.y_dim);
    sums.clear(chunk.n);
    const int64_t next = from + chunk.n;
    const int ahead = w ? static_cast<int>(std::min<int64_t>(kEdges, end - next)) : 0;
    for (int r = 0; r < plan.num_rows; r++) {
      const Row& row = plan.rows[r];
      for (int e = 0; e < ahead; e++) {
        const int64_t at_w = (graph.order ? graph.order[next + e] : next + e) * b.w_dim;
        prefetch<T>(w + at_w + row.w_offset, row.channels);
        if (gw) prefetch_to_write<T>(gw + at_w + row.w_offset, row.channels);
      }
      const T* m = matrices.m.data() + int64_t(plan.m_offset[r]) * kEdges;
      backward_shapes<T>[plan.kernel[r]]({plan, span, sums, m, r, chunk.n});
    }
    if (gy) sums.write(chunk, gy);
    if (b.gr) radial.write(chunk, static_cast<T*>(b.gr));
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
