// What the binding hands to the CUDA kernels of `tpcalc::poly`. No torch and no CUDA header here.
#pragma once
#include <cstdint>

namespace tpcalc::cuda {

constexpr int kMaxPower = 4;

// Terms in the order of their outputs, in device memory
struct Terms {
  const int32_t* words;            // [terms][kMaxPower] components of a monomial, then -1
  const int32_t* out;              // [terms]
  const int32_t* out_begin;        // [d_out + 1] first term of each output
  int32_t num_terms, d_in, d_out;
};

struct Polynomial {
  const int64_t *order, *kind_begin;  // nodes sorted by species, [kinds + 1] positions in them
  const int64_t* species;          // [nodes]
  int64_t nodes, kinds, channels;
  const void *x, *coef, *g;        // [nodes, d_in, C], [kinds, terms, C], [nodes, d_out, C]
  const void *tx, *tcoef;          // directions; both null: values, else derivatives along them
  void *out, *gx, *gcoef;          // as g, x and coef; null ones are not made
};

// Launch on `stream` (a cudaStream_t); null, or what CUDA has against it.
const char* polynomial(bool is_double, const Terms&, const Polynomial&, void* stream);

}  // namespace tpcalc::cuda
