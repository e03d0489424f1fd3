// Second derivatives in one pass. Given tangents dh, dy, dw of gh, gy, gw, with dM made from dy,
// u = w dh + dw h, t = M g, dt = dM g (sums over k):
//   rg[k] += M u + dM w h,  rh += w dt + dw t,  rw = dh t + h dt,  rM[a, k] = sum_c u[a] g[k]
#pragma once
#include "backward.h"

namespace tpcalc {
namespace TPCALC_ISA {

template <class T> struct DoubleSpan {
  const T *g[kEdges], *h[kEdges], *w[kEdges], *dh[kEdges], *dw[kEdges];
  T *rg[kEdges], *rh[kEdges], *rw[kEdges];
};

// One edge and row; `e` of a DoubleSpan with the row's offsets added
template <class T> struct DoubleEdge {
  const T *g, *h, *w, *dh, *dw;
  T *rg, *rh, *rw;
  const T *m, *dm;
  T* entries;

  DoubleEdge(const DoubleSpan<T>& s, const Row& row, int e, const T* m, const T* dm, T* entries)
      : g(s.g[e] + row.out_offset), h(s.h[e] + row.h_offset), w(s.w[e] + row.w_offset),
        dh(s.dh[e] + row.h_offset), dw(s.dw[e] + row.w_offset), rg(s.rg[e] + row.out_offset),
        rh(s.rh[e] + row.h_offset), rw(s.rw[e] + row.w_offset), m(m + e), dm(dm + e),
        entries(entries) {}
};

constexpr int double_rows(int d1, int d3) {
  const int r = registers == 32 ? (d3 == 1 ? 7 : d3 == 3 ? 4 : d3 == 5 ? 2 : 1)
                                : (d3 == 1 ? 4 : d3 == 3 ? 2 : 1);
  return r < d1 ? r : d1;
}

template <class T, int D1, int D3, uint64_t MASK, int I>
TPCALC_INLINE void double_edge(const Row& row, const DoubleEdge<T>& x, int channels, bool fresh_w) {
  if constexpr (I < D1) {
    constexpr int L = lanes<T>, R = std::min(double_rows(D1, D3), D1 - I);
    const int64_t hs = row.h_stride, os = row.out_stride;
    Vec<T> a[R][D3] = {};
    for (int c = 0; c < channels; c += L) {
      Vec<T> gv[D3], rgv[D3], rwv = {};
      const Vec<T> wv = load<T>(x.w + c), dwv = load<T>(x.dw + c);
      TPCALC_UNROLL for (int k = 0; k < D3; k++) {
        gv[k] = load<T>(x.g + k * os + c);
        rgv[k] = load<T>(x.rg + k * os + c);
      }
      TPCALC_UNROLL for (int r = 0; r < R; r++) {
        const int i = I + r;
        if (!row_on<D3, MASK>(i)) continue;
        const Vec<T> hv = load<T>(x.h + i * hs + c), dhv = load<T>(x.dh + i * hs + c);
        const Vec<T> u = wv * dhv + dwv * hv, wh = wv * hv;
        Vec<T> t = {}, dt = {};
        TPCALC_UNROLL for (int k = 0; k < D3; k++)
          if (on<D3, MASK>(i, k)) {
            const Vec<T> mv = broadcast<T>(x.m[(i * D3 + k) * kEdges]);
            const Vec<T> dmv = broadcast<T>(x.dm[(i * D3 + k) * kEdges]);
            t += mv * gv[k];
            dt += dmv * gv[k];
            a[r][k] += u * gv[k];
            rgv[k] += mv * u;
            rgv[k] += dmv * wh;
          }
        rwv += dhv * t + hv * dt;
        T* q = x.rh + i * hs + c;
        store<T>(q, load<T>(q) + wv * dt + dwv * t);
      }
      TPCALC_UNROLL for (int k = 0; k < D3; k++) store<T>(x.rg + k * os + c, rgv[k]);
      if (I > 0 || !fresh_w) rwv += load<T>(x.rw + c);
      store<T>(x.rw + c, rwv);
    }
    TPCALC_UNROLL for (int r = 0; r < R; r++)
      TPCALC_UNROLL for (int k = 0; k < D3; k++)
        if (on<D3, MASK>(I + r, k)) store<T>(x.entries + ((I + r) * D3 + k) * L, a[r][k]);
    double_edge<T, D1, D3, MASK, I + R>(row, x, channels, fresh_w);
  }
}

template <class T> void double_any(const Row& row, const DoubleEdge<T>& x, int c0, bool fresh_w) {
  const int64_t hs = row.h_stride, os = row.out_stride;
  if (fresh_w) std::fill_n(x.rw + c0, row.channels - c0, T(0));
  for (int i = 0; i < row.d1; i++)
    for (int k = 0; k < row.d3; k++) {
      const T mv = x.m[(i * row.d3 + k) * kEdges], dmv = x.dm[(i * row.d3 + k) * kEdges];
      T sum = 0;
      for (int c = c0; c < row.channels; c++) {
        const T hv = x.h[i * hs + c], dhv = x.dh[i * hs + c], gv = x.g[k * os + c];
        const T u = x.w[c] * dhv + x.dw[c] * hv, t = mv * gv, dt = dmv * gv;
        x.rg[k * os + c] += mv * u + dmv * x.w[c] * hv;
        x.rh[i * hs + c] += x.w[c] * dt + x.dw[c] * t;
        x.rw[c] += dhv * t + hv * dt;
        sum += u * gv;
      }
      x.entries[(i * row.d3 + k) * lanes<T>] += sum;
    }
}

template <class T> struct DoubleWork {
  const Plan& plan;
  const DoubleSpan<T>& span;
  LaneSums<T>& sums;
  const T *m, *dm;
  int r, n;
};

template <class T, int D1, int D3, uint64_t MASK> void double_row(const DoubleWork<T>& k) {
  const Row& row = k.plan.rows[k.r];
  const int whole = row.channels / lanes<T> * lanes<T>;
  const bool fresh = k.plan.writes_w[k.r];
  for (int e = 0; e < k.n; e++) {
    const DoubleEdge<T> edge(k.span, row, e, k.m, k.dm, k.sums.entries.data());
    double_edge<T, D1, D3, MASK, 0>(row, edge, whole, fresh);
    if (whole < row.channels) double_any<T>(row, edge, whole, fresh);
    k.sums.add(k.plan, row, e);
  }
}

template <class T> using DoubleRow = void (*)(const DoubleWork<T>&);
template <class T> constexpr DoubleRow<T> double_shapes[] = {
#define X(d1, d3, mask) double_row<T, d1, d3, mask>,
#include "masks.inc"
#undef X
};

template <class T>
void fill_span(DoubleSpan<T>& s, const Chunk& chunk, const DoubleBackward& b) {
  for (int e = 0; e < chunk.n; e++) {
    const int64_t i = chunk.receiver[e] * b.out_dim, j = chunk.sender[e] * b.h_dim;
    const int64_t k = chunk.edge[e] * b.w_dim;
    s.g[e] = static_cast<const T*>(b.g) + i;
    s.h[e] = static_cast<const T*>(b.h) + j;
    s.w[e] = static_cast<const T*>(b.w) + k;
    s.dh[e] = static_cast<const T*>(b.dh) + chunk.sender[e] * b.dh_step;
    s.dw[e] = static_cast<const T*>(b.dw) + chunk.edge[e] * b.dw_step;
    s.rg[e] = static_cast<T*>(b.rg) + i;
    s.rh[e] = static_cast<T*>(b.rh) + j;
    s.rw[e] = static_cast<T*>(b.rw) + k;
  }
}

template <class T>
void double_backward(const Plan& plan, const Graph& graph, const DoubleBackward& b) {
  const T *y = static_cast<const T*>(b.y), *dy = static_cast<const T*>(b.dy);
  Matrices<T> m(plan, b.y_dim), dm(plan, b.y_dim);
  LaneSums<T> sums(plan, b.y_dim);
  Chunk chunk;
  DoubleSpan<T> span;
  const int64_t end = graph.row_ptr[graph.last];
  int64_t at = graph.first;
  for (int64_t from = graph.row_ptr[graph.first]; from < end; from += kEdges) {
    at = chunk.fill(graph, from, end, at);
    fill_span<T>(span, chunk, b);
    m.build(plan, chunk, y, b.y_dim);
    dm.build(plan, chunk, dy, b.dy_step);
    sums.clear(chunk.n);
    for (int r = 0; r < plan.num_rows; r++) {
      const int64_t offset = int64_t(plan.m_offset[r]) * kEdges;
      double_shapes<T>[plan.kernel[r]](
          {plan, span, sums, m.m.data() + offset, dm.m.data() + offset, r, chunk.n});
    }
    sums.write(chunk, static_cast<T*>(b.ry));
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
