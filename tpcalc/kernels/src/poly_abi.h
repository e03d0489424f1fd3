// What `tpcalc::poly` hands to a kernel. No torch here.
#pragma once
#include <cstdint>

namespace tpcalc {

// Polynomials of the features of a node: monomial k = monomial prefix[k] (1 if -1) * x[last[k]];
// terms are sorted by output, monomials with one prefix follow one another
struct PolyTable {
  const int32_t *prefix, *last, *term_monomial, *term_out;
  int32_t num_monomials, num_terms, d_in, d_out;
  const int32_t *tree, *tree_first;  // [d_out] number in trees.inc and first term, or null
};

struct Poly {
  const int64_t* species;          // [nodes] or null: all of kind 0
  const int64_t* order;            // nodes sorted by species, null where they are
  int64_t nodes, kinds, channels;
  const void *x, *coef, *g;        // [nodes, d_in, C], [kinds, terms, C], [nodes, d_out, C]
  const void *tx, *tcoef;          // tangents of gx and gcoef, for second derivatives
  void *out, *gx, *gcoef;          // as g, x and coef
};

struct PolyPart {                  // channels, and nodes counted in `order`, of one call
  int64_t channel, channel_end, node, node_end;
};

struct PolyKernels {
  int32_t vector_bytes;
  void (*poly[2])(const PolyTable&, const Poly&, int order, const PolyPart&);  // [float, double]
};

const PolyKernels& poly_kernels_baseline();
#if defined(__x86_64__)
const PolyKernels& poly_kernels_avx2();
const PolyKernels& poly_kernels_avx512();
#endif

}  // namespace tpcalc
