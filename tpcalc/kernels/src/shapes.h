// Which entries of M a kernel computes; masks.inc lists the (d1, d3, mask) that are compiled.
#pragma once
#include "conv_abi.h"
#include "simd.h"

namespace tpcalc {
namespace TPCALC_ISA {

constexpr uint64_t bits(int n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }
template <int D3, uint64_t MASK> constexpr bool on(int i, int k) {
  return (MASK >> (i * D3 + k)) & 1;
}
template <int D3, uint64_t MASK> constexpr bool row_on(int i) {
  return ((MASK >> (i * D3)) & bits(D3)) != 0;
}

constexpr Shape shapes[] = {
#define X(d1, d3, mask) {d1, d3, mask},
#include "masks.inc"
#undef X
};
constexpr int num_shapes = sizeof(shapes) / sizeof(Shape);

}  // namespace TPCALC_ISA
}  // namespace tpcalc
