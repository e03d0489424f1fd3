// What the binding hands to the CUDA kernels. No torch and no CUDA header here.
#pragma once
#include "../conv_abi.h"

namespace tpcalc::cuda {

// The tables of a `Plan` in device memory
struct Table {
  const Row* rows;
  const int32_t* shape;            // [rows] index into `shapes()`
  const int32_t* m_offset;         // [rows] first M entry of a row among all rows
  const int32_t* entry_begin;      // [num_m + 1] couplings of an M entry
  const int32_t* column;           // [couplings] column of the edge basis
  const void* coef;                // [couplings] in the dtype of the features
  const uint8_t *writes_out, *writes_w;  // [rows] as in `Plan`
  // rows by the block they add to: blocks of one group overlap, those of two groups do not
  const int32_t *out_group_begin, *out_group, *h_group_begin, *h_group;
  int32_t num_rows, num_out_groups, num_h_groups, max_m, max_channels;
};

// Edges in the order of one of their ends, the node that sums
struct Edges {
  const int64_t* row_ptr;          // [nodes + 1]
  const int64_t* order;            // sorted position -> edge
  const int64_t* other;            // by edge: the node at the other end
  int64_t nodes;
};

// out[node] = sum over its edges: of w M^T h (forward), or w M g (gradient of the senders)
struct Gather {
  const void *x, *y, *w;           // w null: from `radial`
  void* out;
  int64_t x_dim, y_dim, w_dim, out_dim;
  Radial radial;
};

// Gradients that belong to an edge; null ones are not computed
struct EdgeGradients {
  const void *g, *h, *y, *w;
  const int64_t *senders, *receivers;
  void *gy, *gw, *gr;              // gr of `radial` takes the place of gw
  int64_t edges, h_dim, y_dim, w_dim, out_dim;
  Radial radial;
};

const Shape* shapes();
int num_shapes();

// Launch on `stream` (a cudaStream_t); null, or what CUDA has against it.
const char* gather(bool is_double, bool to_senders, const Table&, const Edges&, const Gather&,
                   void* stream);
const char* edge_gradients(bool is_double, const Table&, const EdgeGradients&, void* stream);
// out [n, w_dim] = the derivative of the given order of the splined weights at n lengths
const char* radial_values(bool is_double, const Radial&, int64_t n, int order, int64_t w_dim,
                          void* out, void* stream);

}  // namespace tpcalc::cuda
