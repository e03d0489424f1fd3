// The product of one edge, row and channel, free of anything but arithmetic.
#pragma once
#include "cuda_abi.h"
#include "launch.h"

#define TPCALC_UNROLL_DEVICE _Pragma("unroll")

namespace tpcalc::cuda {

// A compiled shape of masks.inc: loops unroll and entries that are always zero vanish
template <int D1, int D3, uint64_t MASK> struct Fixed {
  __device__ static constexpr int d1() { return D1; }
  __device__ static constexpr int d3() { return D3; }
  __device__ static constexpr bool on(int i, int k) { return (MASK >> (i * D3 + k)) & 1; }
};

// sum[k] += w sum_i M[i, k] h[i]
template <class T, class S>
__device__ inline void add_product(const S& s, T* sum, const T* h, int64_t h_stride, T w,
                                   const T* m) {
  TPCALC_UNROLL_DEVICE for (int i = 0; i < s.d1(); i++) {
    const T hw = h[i * h_stride] * w;
    TPCALC_UNROLL_DEVICE for (int k = 0; k < s.d3(); k++)
      if (s.on(i, k)) sum[k] += m[i * s.d3() + k] * hw;
  }
}

// sum[i] += w sum_k M[i, k] g[k]
template <class T, class S>
__device__ inline void add_transposed(const S& s, T* sum, const T* g, int64_t g_stride, T w,
                                      const T* m) {
  TPCALC_UNROLL_DEVICE for (int k = 0; k < s.d3(); k++) {
    const T gw = g[k * g_stride] * w;
    TPCALC_UNROLL_DEVICE for (int i = 0; i < s.d1(); i++)
      if (s.on(i, k)) sum[i] += m[i * s.d3() + k] * gw;
  }
}

// sum_ik h[i] M[i, k] g[k]
template <class T, class S>
__device__ inline T contract(const S& s, const T* h, int64_t h_stride, const T* g,
                             int64_t g_stride, const T* m) {
  T gk[S::d3()], total = 0;
  TPCALC_UNROLL_DEVICE for (int k = 0; k < s.d3(); k++) gk[k] = g[k * g_stride];
  TPCALC_UNROLL_DEVICE for (int i = 0; i < s.d1(); i++) {
    T t = 0;
    TPCALC_UNROLL_DEVICE for (int k = 0; k < s.d3(); k++)
      if (s.on(i, k)) t += m[i * s.d3() + k] * gk[k];
    total += h[i * h_stride] * t;
  }
  return total;
}

// Calls F::run(shape, arguments...) with the compiled shape of this index
enum ShapeIndex {
#define X(d1, d3, mask) shape_##d1##_##d3##_##mask,
#include "../masks.inc"
#undef X
  shape_count
};
template <class F, class... A>
__device__ inline void with_shape(int shape, const Row& row, A&... arguments) {
  switch (shape) {
#define X(d1, d3, mask)                                 \
  case shape_##d1##_##d3##_##mask:                      \
    F::run(Fixed<d1, d3, mask>(), row, arguments...); \
    break;
#include "../masks.inc"
#undef X
  }
}

}  // namespace tpcalc::cuda
