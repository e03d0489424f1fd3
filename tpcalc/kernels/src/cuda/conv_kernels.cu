// The convolution and its derivatives on a GPU. A block sums for one node, its threads are
// channels; nothing is added atomically, so results repeat exactly.
#include "edge_block.h"

namespace tpcalc::cuda {
namespace {

constexpr int kEdgesAtOnce = 8;         // M matrices of a block; fewer where they are large
constexpr int kSharedBytes = 40 << 10;  // of the 48 kB that need no opt-in
constexpr int kMaxThreads = 128;

// One block of rows: the edges of a node and where its sum goes
template <class T> struct GatherWork {
  const Table& table;
  const Edges& edges;
  const Gather& f;
  int at_once, r;
  int64_t node;
  EdgeSlot<T>* slots;
  T* m;  // [at_once][max_m]

  __device__ void load(int64_t from, int n, const Row& row) const {
    const int t = threadIdx.x, threads = blockDim.x, size = row.d1 * row.d3;
    __syncthreads();  // the last edges have been used
    for (int e = t; e < n; e += threads) {
      const int64_t edge = edges.order[from + e];
      slots[e].other = edges.other[edge];
      if (!f.w)
        slots[e].weights.spline(f.radial, edge, 0, f.w_dim);
      else
        slots[e].weights.given(static_cast<const T*>(f.w), edge, f.w_dim);
    }
    for (int q = t; q < n * size; q += threads) {
      const int e = q / size, entry = q % size;
      const T* y = static_cast<const T*>(f.y) + edges.order[from + e] * f.y_dim;
      m[e * table.max_m + entry] = matrix_entry<T>(table, table.m_offset[r] + entry, y);
    }
    __syncthreads();
  }
};

template <class T, bool TO_SENDERS> struct GatherRow {
  template <class S>
  static __device__ void run(const S& s, const Row& row, const GatherWork<T>& work) {
    const Gather& f = work.f;
    const int64_t begin = work.edges.row_ptr[work.node], end = work.edges.row_ptr[work.node + 1];
    constexpr int height = TO_SENDERS ? S::d1() : S::d3();
    const int64_t to_stride = TO_SENDERS ? row.h_stride : row.out_stride;
    const int64_t to_offset = TO_SENDERS ? row.h_offset : row.out_offset;
    const int64_t from_stride = TO_SENDERS ? row.out_stride : row.h_stride;
    const int64_t from_offset = TO_SENDERS ? row.out_offset : row.h_offset;
    const bool fresh = !TO_SENDERS && work.table.writes_out[work.r];
    for (int c0 = 0; c0 < row.channels; c0 += blockDim.x) {
      const int c = c0 + threadIdx.x;
      T sum[height];
      TPCALC_UNROLL_DEVICE for (int k = 0; k < height; k++) sum[k] = 0;
      for (int64_t from = begin; from < end; from += work.at_once) {
        const int n = static_cast<int>(end - from < work.at_once ? end - from : work.at_once);
        work.load(from, n, row);
        if (c >= row.channels) continue;
        for (int e = 0; e < n; e++) {
          const EdgeSlot<T>& slot = work.slots[e];
          const T* x = static_cast<const T*>(f.x) + slot.other * f.x_dim + from_offset + c;
          const T w = slot.weights.at(!f.w, row.w_offset + c, f.w_dim);
          const T* m = work.m + e * work.table.max_m;
          if (TO_SENDERS)
            add_transposed<T, S>(s, sum, x, from_stride, w, m);
          else
            add_product<T, S>(s, sum, x, from_stride, w, m);
        }
      }
      if (c >= row.channels) continue;
      T* out = static_cast<T*>(f.out) + work.node * f.out_dim + to_offset + c;
      TPCALC_UNROLL_DEVICE for (int k = 0; k < height; k++)
        out[k * to_stride] = fresh ? sum[k] : out[k * to_stride] + sum[k];
    }
    __syncthreads();  // the next row may add to the same columns by other threads
  }
};

template <class T, bool TO_SENDERS>
__global__ void gather_kernel(Table table, Edges edges, Gather f, int at_once) {
  EdgeSlot<T>* slots = reinterpret_cast<EdgeSlot<T>*>(shared_memory());
  T* m = reinterpret_cast<T*>(slots + at_once);
  const int32_t* begin = TO_SENDERS ? table.h_group_begin : table.out_group_begin;
  const int32_t* group = TO_SENDERS ? table.h_group : table.out_group;
  for (int64_t node = blockIdx.x; node < edges.nodes; node += gridDim.x)
    for (int q = begin[blockIdx.y]; q < begin[blockIdx.y + 1]; q++) {
      const int r = group[q];
      const GatherWork<T> work{table, edges, f, at_once, r, node, slots, m};
      with_shape<GatherRow<T, TO_SENDERS>>(table.shape[r], table.rows[r], work);
    }
}

// One edge: its weights, M of the row at hand, and a column a thread for each sum over channels
template <class T> struct EdgeWork {
  const Table& table;
  const EdgeGradients& f;
  int64_t edge;
  int r;
  EdgeWeights<T>* weights;  // [2]: values, derivatives
  T *m, *columns;
};

// The gradient of the weights of one row
template <class T> struct EdgeRow {
  template <class S>
  static __device__ void run(const S& s, const Row& row, const EdgeWork<T>& work) {
    const EdgeGradients& f = work.f;
    const int threads = blockDim.x;
    const T* h = static_cast<const T*>(f.h) + f.senders[work.edge] * f.h_dim + row.h_offset;
    const T* g = static_cast<const T*>(f.g) + f.receivers[work.edge] * f.out_dim + row.out_offset;
    for (int c = threadIdx.x; c < row.channels; c += threads) {
      const int64_t wc = row.w_offset + c;
      const T gw = contract<T, S>(s, h + c, row.h_stride, g + c, row.out_stride, work.m);
      if (f.gr)
        work.columns[f.y_dim * threads + threadIdx.x] +=
            gw * work.weights[1].at(true, wc, f.w_dim);
      if (!f.gw) continue;
      T* to = static_cast<T*>(f.gw) + work.edge * f.w_dim + wc;
      *to = work.table.writes_w[work.r] ? gw : *to + gw;
    }
  }
};

// The gradient of the edge basis of one row, of the channels of this thread
template <class T> __device__ void add_basis_gradient(const EdgeWork<T>& work, const Row& row) {
  const EdgeGradients& f = work.f;
  const Table& table = work.table;
  const int threads = blockDim.x, entries = table.m_offset[work.r];
  const T* coef = static_cast<const T*>(table.coef);
  T* column = work.columns + threadIdx.x;
  const T* h = static_cast<const T*>(f.h) + f.senders[work.edge] * f.h_dim + row.h_offset;
  const T* g = static_cast<const T*>(f.g) + f.receivers[work.edge] * f.out_dim + row.out_offset;
  for (int c = threadIdx.x; c < row.channels; c += threads) {
    const T w = work.weights[0].at(!f.w, row.w_offset + c, f.w_dim);
    for (int i = 0; i < row.d1; i++) {
      const T wh = w * h[i * int64_t(row.h_stride) + c];
      for (int k = 0; k < row.d3; k++) {
        const int entry = entries + i * row.d3 + k, end = table.entry_begin[entry + 1];
        int n = table.entry_begin[entry];
        if (n == end) continue;
        const T a = wh * g[k * int64_t(row.out_stride) + c];
        for (; n < end; n++) column[table.column[n] * threads] += coef[n] * a;
      }
    }
  }
}

template <class T> __global__ void edge_kernel(Table table, EdgeGradients f) {
  EdgeWeights<T>* weights = reinterpret_cast<EdgeWeights<T>*>(shared_memory());
  T* m = reinterpret_cast<T*>(weights + 2);
  T* columns = m + table.max_m;
  const int t = threadIdx.x, threads = blockDim.x, count = static_cast<int>(f.y_dim) + 1;
  for (int64_t edge = blockIdx.x; edge < f.edges; edge += gridDim.x) {
    const T* y = static_cast<const T*>(f.y) + edge * f.y_dim;
    for (int j = 0; j < count; j++) columns[j * threads + t] = 0;
    for (int r = 0; r < table.num_rows; r++) {
      const Row& row = table.rows[r];
      __syncthreads();  // M of the row before has been used
      if (r == 0 && t < 2) {
        if (!f.w)
          weights[t].spline(f.radial, edge, t, f.w_dim);
        else
          weights[t].given(static_cast<const T*>(f.w), edge, f.w_dim);
      }
      for (int q = t; q < row.d1 * row.d3; q += threads)
        m[q] = matrix_entry<T>(table, table.m_offset[r] + q, y);
      __syncthreads();
      const EdgeWork<T> work{table, f, edge, r, weights, m, columns};
      if (f.gw || f.gr) with_shape<EdgeRow<T>>(table.shape[r], row, work);
      if (f.gy) add_basis_gradient(work, row);
    }
    sum_over_threads(columns, count);
    if (f.gy)
      for (int j = t; j < f.y_dim; j += threads)
        static_cast<T*>(f.gy)[edge * f.y_dim + j] = columns[j * threads];
    if (f.gr && t == 0) static_cast<T*>(f.gr)[edge] = columns[f.y_dim * threads];
    __syncthreads();  // before the next edge clears the columns
  }
}

template <class T>
__global__ void radial_kernel(Radial f, int64_t n, int order, int64_t w_dim, T* out) {
  for (int64_t edge = blockIdx.x; edge < n; edge += gridDim.x) {
    EdgeWeights<T> weights;
    weights.spline(f, edge, order, w_dim);
    for (int64_t c = threadIdx.x; c < w_dim; c += blockDim.x)
      out[edge * w_dim + c] = weights.at(true, c, w_dim);
  }
}

template <class T>
const char* gather_typed(bool to_senders, const Table& table, const Edges& edges, const Gather& f,
                         void* stream) {
  const int64_t room = kSharedBytes / (table.max_m * sizeof(T) + sizeof(EdgeSlot<T>));
  const int at_once = static_cast<int>(room < 1 ? 1 : room < kEdgesAtOnce ? room : kEdgesAtOnce);
  const size_t shared = at_once * (sizeof(EdgeSlot<T>) + table.max_m * sizeof(T));
  const dim3 grid(blocks_for(edges.nodes), to_senders ? table.num_h_groups : table.num_out_groups);
  const auto kernel = to_senders ? gather_kernel<T, true> : gather_kernel<T, false>;
  return launch(kernel, grid, threads_for(table.max_channels, kMaxThreads), shared, stream, table,
                edges, f, at_once);
}

template <class T>
const char* edge_typed(const Table& table, const EdgeGradients& f, void* stream) {
  const size_t fixed = 2 * sizeof(EdgeWeights<T>) + table.max_m * sizeof(T);
  const size_t column = (f.y_dim + 1) * sizeof(T);
  unsigned most = kMaxThreads;
  while (most > 32 && fixed + most * column > kSharedBytes) most /= 2;
  if (fixed + most * column > 48 << 10) return "the edge basis has too many columns for a block";
  const unsigned threads = threads_for(table.max_channels, most);
  return launch(edge_kernel<T>, dim3(blocks_for(f.edges)), threads,
                fixed + threads * column, stream, table, f);
}

const Shape all_shapes[] = {
#define X(d1, d3, mask) {d1, d3, mask},
#include "../masks.inc"
#undef X
};

}  // namespace

const Shape* shapes() { return all_shapes; }
int num_shapes() { return shape_count; }

const char* gather(bool is_double, bool to_senders, const Table& table, const Edges& edges,
                   const Gather& f, void* stream) {
  if (edges.nodes == 0 || table.num_rows == 0) return nullptr;
  return is_double ? gather_typed<double>(to_senders, table, edges, f, stream)
                   : gather_typed<float>(to_senders, table, edges, f, stream);
}

const char* edge_gradients(bool is_double, const Table& table, const EdgeGradients& f,
                           void* stream) {
  if (f.edges == 0) return nullptr;
  return is_double ? edge_typed<double>(table, f, stream) : edge_typed<float>(table, f, stream);
}

const char* radial_values(bool is_double, const Radial& f, int64_t n, int order, int64_t w_dim,
                          void* out, void* stream) {
  if (n == 0 || w_dim == 0) return nullptr;
  const unsigned blocks = blocks_for(n), threads = threads_for(w_dim, kMaxThreads);
  return is_double ? launch(radial_kernel<double>, blocks, threads, 0, stream, f, n, order, w_dim,
                            static_cast<double*>(out))
                   : launch(radial_kernel<float>, blocks, threads, 0, stream, f, n, order, w_dim,
                            static_cast<float*>(out));
}

}  // namespace tpcalc::cuda
