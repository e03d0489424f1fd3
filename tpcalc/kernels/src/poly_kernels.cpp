// Compiled once per instruction set, as conv_kernels.cpp.
#include "poly.h"

#define TPCALC_JOIN_(a, b) a##b
#define TPCALC_JOIN(a, b) TPCALC_JOIN_(a, b)

namespace tpcalc {

const PolyKernels& TPCALC_JOIN(poly_kernels_, TPCALC_ISA)() {
  using namespace TPCALC_ISA;
  static const PolyKernels kernels = {TPCALC_VECTOR_BYTES, {poly<float>, poly<double>}};
  return kernels;
}

}  // namespace tpcalc
