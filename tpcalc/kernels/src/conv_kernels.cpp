// Compiled once per instruction set: -DTPCALC_ISA=avx512 -DTPCALC_VECTOR_BYTES=64 and its -m flags.
#include "double_backward.h"
#include "forward.h"

#define TPCALC_JOIN_(a, b) a##b
#define TPCALC_JOIN(a, b) TPCALC_JOIN_(a, b)

namespace tpcalc {

const Kernels& TPCALC_JOIN(kernels_, TPCALC_ISA)() {
  using namespace TPCALC_ISA;
  static const Kernels kernels = {
      TPCALC_VECTOR_BYTES,
      shapes,
      num_shapes,
      {forward<float>, forward<double>},
      {backward<float>, backward<double>},
      {double_backward<float>, double_backward<double>},
      {radial_values<float>, radial_values<double>},
  };
  return kernels;
}

}  // namespace tpcalc
