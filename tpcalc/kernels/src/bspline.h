// Uniform cubic B-splines, on the CPU and on a GPU.
#pragma once

#if defined(__CUDACC__)
#define TPCALC_HOST_DEVICE __host__ __device__
#else
#define TPCALC_HOST_DEVICE
#endif

namespace tpcalc {

// v = 6 times the four B-splines that differ from 0 at t in [0, 1] of an interval, or their
// derivatives by t of an order up to 3
TPCALC_HOST_DEVICE inline void bsplines(double t, int order, double (&v)[4]) {
  const double s = 1 - t;
  if (order == 0) {
    v[0] = s * s * s, v[1] = 3 * t * t * t - 6 * t * t + 4;
    v[2] = 3 * s * s * s - 6 * s * s + 4, v[3] = t * t * t;
  } else if (order == 1) {
    v[0] = -3 * s * s, v[1] = 9 * t * t - 12 * t, v[2] = 12 * s - 9 * s * s, v[3] = 3 * t * t;
  } else if (order == 2) {
    v[0] = 6 * s, v[1] = 18 * t - 12, v[2] = 18 * s - 12, v[3] = 6 * t;
  } else {
    v[0] = -6, v[1] = 18, v[2] = -18, v[3] = 6;
  }
}

}  // namespace tpcalc
