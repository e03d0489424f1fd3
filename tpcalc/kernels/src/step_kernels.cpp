// Compiled once per instruction set, as conv_kernels.cpp.
#include "bessel.h"
#include "gate.h"
#include "harmonics.h"
#include "linear.h"
#include "mlp.h"
#include "products.h"

#define TPCALC_JOIN_(a, b) a##b
#define TPCALC_JOIN(a, b) TPCALC_JOIN_(a, b)

namespace tpcalc {
namespace TPCALC_ISA {

template <class T>
void pack_any(const void* b, int64_t k, int64_t n, bool transposed, void* out) {
  pack<T>(static_cast<const T*>(b), k, n, transposed, static_cast<T*>(out));
}

}  // namespace TPCALC_ISA

const StepKernels& TPCALC_JOIN(step_kernels_, TPCALC_ISA)() {
  using namespace TPCALC_ISA;
#define BOTH(f) {f<float>, f<double>}
  static const StepKernels kernels = {
      TPCALC_VECTOR_BYTES, BOTH(pack_any), BOTH(linear), BOTH(linear_weight), BOTH(mlp),
      BOTH(mlp_backward), BOTH(gate), BOTH(gate_backward), BOTH(harmonics),
      BOTH(harmonics_backward), BOTH(bessel), BOTH(bessel_backward),
      BOTH(products), BOTH(products_backward),
      BOTH(products_double_backward)};
#undef BOTH
  return kernels;
}

}  // namespace tpcalc
