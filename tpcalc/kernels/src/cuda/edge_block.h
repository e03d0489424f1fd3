// What the threads of a block share: some edges, their M matrices and their weights.
#pragma once
#include "../bspline.h"
#include "product.h"

namespace tpcalc::cuda {

// Weights of one edge: given, or by splines of its length
template <class T> struct EdgeWeights {
  const T* rows;  // given: the weights; splines: the first of four rows of the table, or null
  T basis[4];

  __device__ void given(const T* w, int64_t edge, int64_t w_dim) { rows = w + edge * w_dim; }
  __device__ void spline(const Radial& f, int64_t edge, int order, int64_t w_dim) {
    rows = nullptr;
    const double u = static_cast<const T*>(f.r)[edge] * f.inverse_step;
    if (!(u >= 0 && u < f.intervals)) return;
    const int64_t i = static_cast<int64_t>(u), kind = f.kind ? f.kind[edge] : 0;
    rows = static_cast<const T*>(f.table) + (kind * (f.intervals + 3) + i) * w_dim;
    double v[4], scale = 1.0 / 6;
    bsplines(u - i, order, v);
    for (int n = 0; n < order; n++) scale *= f.inverse_step;
    for (int q = 0; q < 4; q++) basis[q] = static_cast<T>(v[q] * scale);
  }
  __device__ T at(bool spline, int64_t column, int64_t w_dim) const {
    if (!spline) return rows[column];
    if (!rows) return T(0);
    const T* p = rows + column;
    return basis[0] * p[0] + basis[1] * p[w_dim] + basis[2] * p[2 * w_dim] +
           basis[3] * p[3 * w_dim];
  }
};

template <class T> struct EdgeSlot {
  int64_t other;
  EdgeWeights<T> weights;
};

// Entries of M of a row for edge `edge`, by the threads of the block
template <class T>
__device__ inline T matrix_entry(const Table& table, int entry, const T* y) {
  T sum = 0;
  for (int n = table.entry_begin[entry]; n < table.entry_begin[entry + 1]; n++)
    sum += static_cast<const T*>(table.coef)[n] * y[table.column[n]];
  return sum;
}

// out[j] = sum over the threads of columns[j * blockDim.x + thread], by halves; a power of two
template <class T> __device__ inline void sum_over_threads(T* columns, int count) {
  const int t = threadIdx.x, threads = blockDim.x;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int n = t; n < count * half; n += threads) {
      T* column = columns + (n / half) * threads;
      column[n % half] += column[n % half + half];
    }
  }
  __syncthreads();
}

}  // namespace tpcalc::cuda
