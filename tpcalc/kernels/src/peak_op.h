// tpcalc::fma_rounds: float32 multiply-adds as fast as one core makes them.
#pragma once
#include <cstdint>

#include "conv_plan.h"

namespace tpcalc {
namespace {

// 24 independent chains hide the latency of the unit
#define TPCALC_SPIN(name, bytes, ...)                                            \
  __VA_ARGS__ __attribute__((noinline)) float name(int64_t rounds) {             \
    typedef float V __attribute__((vector_size(bytes)));                         \
    V a[24], x = V{} + 0.999f, y = V{} + 1e-3f;                                  \
    for (int i = 0; i < 24; i++) a[i] = V{} + float(i);                          \
    for (int64_t r = 0; r < rounds; r++)                                         \
      _Pragma("GCC unroll 24") for (int i = 0; i < 24; i++) a[i] = a[i] * x + y; \
    V sum{};                                                                     \
    for (int i = 0; i < 24; i++) sum += a[i];                                    \
    return sum[0];                                                               \
  }
TPCALC_SPIN(spin_baseline, 16)
#if defined(__x86_64__)
TPCALC_SPIN(spin_avx2, 32, __attribute__((target("avx2,fma"))))
TPCALC_SPIN(spin_avx512, 64, __attribute__((target("avx512f,fma"))))
#endif
#undef TPCALC_SPIN

// Floating-point operations done in `rounds` rounds, by the instruction set of the kernels
int64_t fma_rounds(int64_t rounds) {
  const int64_t bytes = widest_kernels().vector_bytes;
  volatile float result;
#if defined(__x86_64__)
  if (bytes == 64) result = spin_avx512(rounds);
  else if (bytes == 32) result = spin_avx2(rounds);
  else
#endif
    result = spin_baseline(rounds);
  (void)result;
  return 2 * 24 * (bytes / 4) * rounds;
}

}  // namespace
}  // namespace tpcalc
