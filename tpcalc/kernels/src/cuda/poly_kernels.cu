// Symmetric contraction on a GPU: a thread is a channel of one node, or of one coefficient. Nothing
// is added atomically. Derivatives along a direction are the same kernels in dual numbers.
#include "launch.h"
#include "poly_abi.h"

namespace tpcalc::cuda {
namespace {

constexpr size_t kSharedBytes = 40 << 10;  // of the 48 kB that need no opt-in
constexpr unsigned kMostThreads = 128;

// v + d e, e e = 0
template <class T> struct Dual {
  T v, d;
  __device__ Dual operator*(const Dual& o) const { return {v * o.v, v * o.d + d * o.v}; }
  __device__ void operator+=(const Dual& o) { v += o.v, d += o.d; }
};

// How numbers are read and what of them is written
template <class T> struct Values {
  using Number = T;
  static __device__ T read(const void* p, const void*, int64_t n) {
    return static_cast<const T*>(p)[n];
  }
  static __device__ T constant(const void* p, int64_t n) { return static_cast<const T*>(p)[n]; }
  static __device__ void write(void* p, int64_t n, T x) { static_cast<T*>(p)[n] = x; }
};
template <class T> struct Derivatives {
  using Number = Dual<T>;
  static __device__ Number read(const void* p, const void* direction, int64_t n) {
    return {static_cast<const T*>(p)[n], static_cast<const T*>(direction)[n]};
  }
  static __device__ Number constant(const void* p, int64_t n) {
    return {static_cast<const T*>(p)[n], T(0)};
  }
  static __device__ void write(void* p, int64_t n, Number x) { static_cast<T*>(p)[n] = x.d; }
};

// The components of a node that a thread has in shared memory: component n is at n * blockDim.x
template <class N> struct Column {
  N* first;
  __device__ N& operator[](int n) const { return first[n * blockDim.x]; }
};

// A coefficient times the components of its monomial, all but number `left_out`
template <class N>
__device__ N times_word(N product, const int32_t* word, const Column<N>& x, int left_out) {
  for (int k = 0; k < kMaxPower && word[k] >= 0; k++)
    if (k != left_out) product = product * x[word[k]];
  return product;
}

template <class F> __device__ void read_column(const Terms& t, const Polynomial& p, int64_t node,
                                               int c, const Column<typename F::Number>& x) {
  for (int n = 0; n < t.d_in; n++) x[n] = F::read(p.x, p.tx, (node * t.d_in + n) * p.channels + c);
}

// Outputs, and gradients of the features, of nodes blockIdx.x, + gridDim.x, ...
template <class F> __global__ void node_kernel(Terms t, Polynomial p) {
  using N = typename F::Number;
  const int c = blockIdx.y * blockDim.x + threadIdx.x;
  if (c >= p.channels) return;
  const Column<N> x{reinterpret_cast<N*>(shared_memory()) + threadIdx.x};
  const Column<N> gx{x.first + t.d_in * blockDim.x};
  for (int64_t at = blockIdx.x; at < p.nodes; at += gridDim.x) {
    const int64_t node = p.order[at], kind = p.species[node];
    read_column<F>(t, p, node, c, x);
    if (p.gx)
      for (int n = 0; n < t.d_in; n++) gx[n] = N{};
    for (int o = 0; o < t.d_out; o++) {
      const int64_t result = (node * t.d_out + o) * p.channels + c;
      const N g = p.g ? F::constant(p.g, result) : N{};
      N sum{};
      for (int k = t.out_begin[o]; k < t.out_begin[o + 1]; k++) {
        const int32_t* word = t.words + k * kMaxPower;
        const N coef = F::read(p.coef, p.tcoef, (kind * t.num_terms + k) * p.channels + c);
        if (p.out) sum += times_word(coef, word, x, -1);
        if (!p.gx) continue;
        const N weight = coef * g;
        for (int n = 0; n < kMaxPower && word[n] >= 0; n++)
          gx[word[n]] += times_word(weight, word, x, n);
      }
      if (p.out) F::write(p.out, result, sum);
    }
    if (p.gx)
      for (int n = 0; n < t.d_in; n++)
        F::write(p.gx, (node * t.d_in + n) * p.channels + c, gx[n]);
  }
}

// Gradients of the coefficients blockIdx.x, + gridDim.x, ... [kinds x terms]: sums over nodes
template <class F> __global__ void coefficient_kernel(Terms t, Polynomial p) {
  using N = typename F::Number;
  const int c = blockIdx.y * blockDim.x + threadIdx.x;
  if (c >= p.channels) return;
  for (int64_t at = blockIdx.x; at < p.kinds * t.num_terms; at += gridDim.x) {
    const int64_t kind = at / t.num_terms;
    const int32_t* word = t.words + (at % t.num_terms) * kMaxPower;
    const int o = t.out[at % t.num_terms];
    N sum{};
    for (int64_t n = p.kind_begin[kind]; n < p.kind_begin[kind + 1]; n++) {
      const int64_t node = p.order[n];
      N product = F::constant(p.g, (node * t.d_out + o) * p.channels + c);
      for (int k = 0; k < kMaxPower && word[k] >= 0; k++)
        product = product * F::read(p.x, p.tx, (node * t.d_in + word[k]) * p.channels + c);
      sum += product;
    }
    F::write(p.gcoef, at * p.channels + c, sum);
  }
}

template <class F> const char* run(const Terms& t, const Polynomial& p, void* stream) {
  const size_t column = t.d_in * sizeof(typename F::Number) * (p.gx ? 2 : 1);
  unsigned most = kMostThreads;
  while (most > 32 && most * column > kSharedBytes) most /= 2;
  if (most * column > 48 << 10) return "the features have too many components for a block";
  const unsigned threads = threads_for(p.channels, most);
  const unsigned blocks_y = static_cast<unsigned>((p.channels + threads - 1) / threads);
  if (p.out || p.gx) {
    const char* error = launch(node_kernel<F>, dim3(blocks_for(p.nodes), blocks_y), threads,
                               threads * column, stream, t, p);
    if (error) return error;
  }
  if (!p.gcoef) return nullptr;
  return launch(coefficient_kernel<F>, dim3(blocks_for(p.kinds * t.num_terms), blocks_y), threads,
                0, stream, t, p);
}

}  // namespace

const char* polynomial(bool is_double, const Terms& t, const Polynomial& p, void* stream) {
  if (p.channels == 0 || (p.nodes == 0 && !p.gcoef)) return nullptr;
  if (p.tx) return is_double ? run<Derivatives<double>>(t, p, stream)
                             : run<Derivatives<float>>(t, p, stream);
  return is_double ? run<Values<double>>(t, p, stream) : run<Values<float>>(t, p, stream);
}

}  // namespace tpcalc::cuda
