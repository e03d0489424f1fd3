// What the ops around the convolution hand to a kernel. No torch here.
#pragma once
#include <cstdint>

namespace tpcalc {

// Columns from.. of x, [dim, in], times a matrix [in, out] make columns to.. of y, [dim, out]
struct LinearBlock {
  int64_t from, to, dim, in, out;
  int64_t weight, packed;          // where the matrix of the first kind begins, plain and packed
};

struct Linear {
  const void *x, *w;               // w: packed for `linear`; the gradient of y for `linear_weight`
  void* y;                         // for `linear_weight` the gradient of the weights
  int64_t x_dim, y_dim;
  const LinearBlock* blocks;
  int64_t num_blocks, kinds;
  double scale;
  bool add;                        // to what stands in y
  const int64_t* order;            // nodes sorted by kind, null where they are
  const int64_t* ends;             // [kinds + 1] first position of each kind
};

struct LinearItem {                // one piece of the gradient of the weights
  int64_t block, kind, column;
};

// x W0 / sqrt(fan-in), SiLU, ... ; no activation after the last matrix, but row by row a factor
struct Mlp {
  const void *x, *g;
  void *y, *gx;
  const void* envelope;            // [rows] the factors, null for none
  void* genvelope;
  int64_t layers;
  const int64_t* sizes;            // [layers + 1]
  const void* const* packed;       // [layers] matrices
  const void* const* transposed;   // [layers] their transposes, packed, for gx
  double norm;                     // of the activation
};

// [odd | even | gates | blocks] -> [odd | even | blocks times gates]
struct Gate {
  const void *x, *g;
  void *y, *gx;
  const int64_t* blocks;           // (channels, components) of each
  int64_t num_blocks, odd, even, gates, in, out;
  double silu, tanh;
};

struct HarmonicsEntry {            // y_l[k] += coef * y_{l-1}[i] * y_1[j]
  int32_t i, j, k;
  double coef;
};

struct Harmonics {
  const void *vectors, *g;         // [edges, 3], [edges, (lmax + 1)^2]
  void *y, *gv;
  int64_t lmax;
  const HarmonicsEntry* entries;
  const int64_t* first;            // [lmax + 2] entries of degree l: first[l] .. first[l + 1]
};

// prefactor sin(w_k r) / r times a cutoff, r the length of an edge vector
struct Bessel {
  enum Kind { none, polynomial, xplor, length };  // length: the feature is the length itself
  const void *vectors, *g;         // [edges, 3], [edges, num]
  void *y, *gv;
  double* lengths;                 // [edges]
  const double* glengths;          // their gradient, null for none
  const double* frequencies;       // [num]
  int64_t num;                     // features
  double prefactor;
  int64_t kind;
  double cutoff, parameter;        // parameter: the power, or the onset
};

// y[path] = sum over terms of the product of three blocks of `channels` columns of x
struct Products {
  const void *x, *g, *dx;          // dx: the tangent of gx
  void *y, *gx, *gg;
  const int64_t* blocks;           // [terms, paths, 3]
  int64_t terms, paths, channels, in;  // in: blocks of x
};

struct StepKernels {               // pairs: [float, double]; ranges: rows of this call
  int32_t vector_bytes;
  void (*pack[2])(const void* b, int64_t k, int64_t n, bool transposed, void* out);
  void (*linear[2])(const Linear&, int64_t first, int64_t last);
  void (*linear_weight[2])(const Linear&, const LinearItem&);
  void (*mlp[2])(const Mlp&, int64_t first, int64_t last);
  void (*mlp_backward[2])(const Mlp&, int64_t first, int64_t last);
  void (*gate[2])(const Gate&, int64_t first, int64_t last);
  void (*gate_backward[2])(const Gate&, int64_t first, int64_t last);
  void (*harmonics[2])(const Harmonics&, int64_t first, int64_t last);
  void (*harmonics_backward[2])(const Harmonics&, int64_t first, int64_t last);
  void (*bessel[2])(const Bessel&, int64_t first, int64_t last);
  void (*bessel_backward[2])(const Bessel&, int64_t first, int64_t last);
  void (*products[2])(const Products&, int64_t first, int64_t last);
  void (*products_backward[2])(const Products&, int64_t first, int64_t last);
  void (*products_double_backward[2])(const Products&, int64_t first, int64_t last);
};

const StepKernels& step_kernels_baseline();
#if defined(__x86_64__)
const StepKernels& step_kernels_avx2();
const StepKernels& step_kernels_avx512();
#endif

}  // namespace tpcalc
