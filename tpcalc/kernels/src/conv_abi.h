// What the op hands to a kernel. No torch here: one binding, kernels compiled once per ISA.
#pragma once
#include <cstdint>

namespace tpcalc {

constexpr int kEdges = 16;     // edges per chunk; the M matrices of a chunk are built together
constexpr int kRowFields = 10;

// One row couples the block h[d1, channels] to the block out[d3, channels] by M [d1, d3].
struct Row {
  int32_t d1, d3, channels;
  int32_t h_offset, h_stride;      // component i of channel c at h_offset + i * h_stride + c
  int32_t w_offset;
  int32_t out_offset, out_stride;
  int32_t nz_begin, nz_end;        // its couplings, M entries counted from the row's first
};

// M of row r: M[i * d3 + k] += coef * y[column], over its non-zeros sorted by M entry
struct Coupling {
  int32_t entry, column;
};

struct Plan {
  const Row* rows;
  int32_t num_rows;
  const int32_t* m_offset;         // [rows] first M entry of a row among all rows
  const int32_t* kernel;           // [rows] index into the table of compiled shapes
  const uint8_t* writes_out;       // [rows] 1: first to touch its outputs, stores instead of adds
  const uint8_t* writes_w;         // [rows] the same for the gradient of its weights
  const Coupling* couplings;       // sorted by (row, entry)
  const Coupling* by_column;       // the same, sorted by (row, column)
  const void* coef;                // in the dtype of the features, in the order of `couplings`
  const void* coef_by_column;
  int32_t num_m, max_channels;
  bool zero_w;                     // the gradient of the weights is added to, from zero
};

struct Graph {
  const int64_t* row_ptr;          // [receivers + 1] into the edges sorted by receiver
  const int64_t* order;            // sorted position -> edge, null where they are sorted
  const int64_t* senders;          // by edge
  int64_t first, last;             // receivers of this call
};

// Weights as functions of a length: cubic B-splines on equal intervals from 0, zero beyond.
struct Radial {
  const void *r, *table;           // [edges], [kinds, intervals + 3, w_dim]; r null: not used
  const int64_t* kind;             // [edges] or null: all of kind 0
  int64_t intervals;
  double inverse_step;
};

struct Forward {
  const void *h, *y, *w;           // w null: from `radial`
  void* out;
  int64_t h_dim, y_dim, w_dim, out_dim;
  Radial radial;
};

struct Backward {                  // null gradients are not computed
  const void *g, *h, *y, *w;
  void *gh, *gy, *gw, *gr;         // gh is added to; gr of `radial` takes the place of gw
  int64_t h_dim, y_dim, w_dim, out_dim;
  Radial radial;
};

// tangents (dh, dy, dw) of `Backward`'s outputs contracted with its derivatives
struct DoubleBackward {
  const void *g, *h, *y, *w, *dh, *dy, *dw;
  int64_t dh_step, dy_step, dw_step;  // distance of two rows, 0 for one row of zeros
  void *rg, *rh, *ry, *rw;            // rg and rh are added to
  int64_t h_dim, y_dim, w_dim, out_dim;
};

struct Shape {                     // a compiled (d1, d3, mask of M)
  int32_t d1, d3;
  uint64_t mask;
};

struct Kernels {
  int32_t vector_bytes;
  const Shape* shapes;
  int32_t num_shapes;
  void (*forward[2])(const Plan&, const Graph&, const Forward&);         // [float, double]
  void (*backward[2])(const Plan&, const Graph&, const Backward&);
  void (*double_backward[2])(const Plan&, const Graph&, const DoubleBackward&);
  // out [n, w_dim] = the derivative of the given order of the weights at n lengths
  void (*radial[2])(const Radial&, int64_t n, int order, int64_t w_dim, void* out);
};

const Kernels& kernels_baseline();
#if defined(__x86_64__)
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
#endif

}  // namespace tpcalc
