// Weights of an edge from its length: w(r) = sum_q B_q(r) table[i + q], uniform cubic B-splines.
#pragma once
#include "bspline.h"
#include "chunk.h"

namespace tpcalc {
namespace TPCALC_ISA {

// The four B-splines (or their derivative of an order up to 3) that differ from 0 at r
template <class T> struct SplineBasis {
  const T* rows;  // first of four rows of the table, null where all is zero
  T b[4];

  SplineBasis(const Radial& f, int64_t edge, int order, int64_t w_dim) : rows(nullptr), b{} {
    const double u = static_cast<const T*>(f.r)[edge] * f.inverse_step;
    if (!(u >= 0 && u < f.intervals)) return;
    const int64_t i = static_cast<int64_t>(u), kind = f.kind ? f.kind[edge] : 0;
    rows = static_cast<const T*>(f.table) + (kind * (f.intervals + 3) + i) * w_dim;
    double v[4];
    bsplines(u - i, order, v);
    double scale = 1.0 / 6;
    for (int n = 0; n < order; n++) scale *= f.inverse_step;
    for (int q = 0; q < 4; q++) b[q] = static_cast<T>(v[q] * scale);
  }

  void values(int64_t w_dim, T* out) const {
    constexpr int L = lanes<T>;
    if (!rows) return void(std::fill_n(out, w_dim, T(0)));
    const T *r0 = rows, *r1 = r0 + w_dim, *r2 = r1 + w_dim, *r3 = r2 + w_dim;
    const Vec<T> b0 = broadcast(b[0]), b1 = broadcast(b[1]), b2 = broadcast(b[2]),
                 b3 = broadcast(b[3]);
    int64_t c = 0;
    for (; c + L <= w_dim; c += L)
      store<T>(out + c, b0 * load<T>(r0 + c) + b1 * load<T>(r1 + c) + b2 * load<T>(r2 + c) +
                            b3 * load<T>(r3 + c));
    for (; c < w_dim; c++) out[c] = b[0] * r0[c] + b[1] * r1[c] + b[2] * r2[c] + b[3] * r3[c];
  }

  // sum_c g[c] w[c]
  T dot(int64_t w_dim, const T* g) const {
    constexpr int L = lanes<T>;
    if (!rows) return 0;
    const T *r0 = rows, *r1 = r0 + w_dim, *r2 = r1 + w_dim, *r3 = r2 + w_dim;
    Vec<T> s0 = {}, s1 = {}, s2 = {}, s3 = {};
    int64_t c = 0;
    for (; c + L <= w_dim; c += L) {
      const Vec<T> gv = load<T>(g + c);
      s0 += gv * load<T>(r0 + c), s1 += gv * load<T>(r1 + c);
      s2 += gv * load<T>(r2 + c), s3 += gv * load<T>(r3 + c);
    }
    const Vec<T> sum = b[0] * s0 + b[1] * s1 + b[2] * s2 + b[3] * s3;
    T total = 0;
    for (int l = 0; l < L; l++) total += sum[l];
    for (; c < w_dim; c++)
      total += g[c] * (b[0] * r0[c] + b[1] * r1[c] + b[2] * r2[c] + b[3] * r3[c]);
    return total;
  }
};

// Weights and their gradients of one chunk, which never leave the cache
template <class T> class RadialChunk {
 public:
  RadialChunk(const Radial& radial, int64_t w_dim)
      : radial_(radial), w_dim_(w_dim), step_((w_dim + 15) / 16 * 16),
        w_(radial.r ? kEdges * step_ : 0), gw_(radial.r ? kEdges * step_ : 0) {}

  T* weights(int e) { return w_.data() + e * step_; }
  T* gradient(int e) { return gw_.data() + e * step_; }
  void clear_gradient() { std::fill_n(gw_.data(), kEdges * step_, T(0)); }
  void evaluate(const Chunk& chunk) {
    for (int e = 0; e < chunk.n; e++)
      SplineBasis<T>(radial_, chunk.edge[e], 0, w_dim_).values(w_dim_, weights(e));
  }
  void write(const Chunk& chunk, T* gr) {
    for (int e = 0; e < chunk.n; e++)
      gr[chunk.edge[e]] =
          SplineBasis<T>(radial_, chunk.edge[e], 1, w_dim_).dot(w_dim_, gradient(e));
  }

 private:
  const Radial& radial_;
  int64_t w_dim_, step_;
  Buffer<T> w_, gw_;
};

template <class T>
void radial_values(const Radial& radial, int64_t n, int order, int64_t w_dim, void* out) {
  for (int64_t e = 0; e < n; e++)
    SplineBasis<T>(radial, e, order, w_dim).values(w_dim, static_cast<T*>(out) + e * w_dim);
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
