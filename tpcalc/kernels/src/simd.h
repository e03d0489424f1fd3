// Vectors of one register, by GCC/Clang vector extensions; the width is chosen per translation unit.
#pragma once
#include <algorithm>
#include <cstdint>
#include <new>

#ifndef TPCALC_VECTOR_BYTES
#define TPCALC_VECTOR_BYTES 16
#endif
#define TPCALC_INLINE inline __attribute__((always_inline))
#define TPCALC_UNROLL _Pragma("GCC unroll 16")

namespace tpcalc {
namespace TPCALC_ISA {

template <class T> struct Vector;
template <> struct Vector<float> {
  typedef float type __attribute__((vector_size(TPCALC_VECTOR_BYTES)));
  typedef float loose __attribute__((vector_size(TPCALC_VECTOR_BYTES), aligned(4)));
  typedef int32_t index __attribute__((vector_size(TPCALC_VECTOR_BYTES)));
};
template <> struct Vector<double> {
  typedef double type __attribute__((vector_size(TPCALC_VECTOR_BYTES)));
  typedef double loose __attribute__((vector_size(TPCALC_VECTOR_BYTES), aligned(8)));
  typedef int64_t index __attribute__((vector_size(TPCALC_VECTOR_BYTES)));
};
template <class T> using Vec = typename Vector<T>::type;
template <class T> constexpr int lanes = TPCALC_VECTOR_BYTES / sizeof(T);
// number of vector registers: how much a block may keep
constexpr int registers = TPCALC_VECTOR_BYTES == 64 ? 32 : 16;

// Zeros, on a cache line: a vector across two lines costs twice
template <class T> class Buffer {
 public:
  explicit Buffer(int64_t n)
      : size_(n),
        data_(static_cast<T*>(::operator new(std::max<int64_t>(n, 1) * sizeof(T), align()))) {
    std::fill_n(data_, n, T(0));
  }
  ~Buffer() { ::operator delete(data_, align()); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return data_; }
  int64_t size() const { return size_; }

 private:
  static constexpr std::align_val_t align() { return std::align_val_t(64); }
  int64_t size_;
  T* data_;
};

template <class T> TPCALC_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Vector<T>::loose*>(p);
}
template <class T> TPCALC_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Vector<T>::loose*>(p) = v;
}
// x - 0 is a broadcast for GCC; x + 0 would cost an addition (signed zeros)
template <class T> TPCALC_INLINE Vec<T> broadcast(T x) { return x - Vec<T>{}; }

template <class T> TPCALC_INLINE void prefetch(const T* p, int n) {
  for (int i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(p + i, 0, 2);
}
template <class T> TPCALC_INLINE void prefetch_to_write(T* p, int n) {
  for (int i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(p + i, 1, 2);
}

// dst[0..lanes) = the sums of `lanes` consecutive vectors
template <class T> TPCALC_INLINE void sum_lanes(const T* src, T* dst) {
  constexpr int L = lanes<T>;
#if defined(__clang__)
  for (int i = 0; i < L; i++) {
    T s = 0;
    for (int j = 0; j < L; j++) s += src[i * L + j];
    dst[i] = s;
  }
#else
  typename Vector<T>::index even, odd;
  for (int i = 0; i < L; i++) even[i] = 2 * i, odd[i] = 2 * i + 1;
  Vec<T> a[L];
  TPCALC_UNROLL for (int i = 0; i < L; i++) a[i] = load<T>(src + i * L);
  _Pragma("GCC unroll 4") for (int n = L; n > 1; n /= 2)
    TPCALC_UNROLL for (int i = 0; i < n / 2; i++) {
      Vec<T> x = a[2 * i], y = a[2 * i + 1];
      a[i] = __builtin_shuffle(x, y, even) + __builtin_shuffle(x, y, odd);
    }
  store<T>(dst, a[0]);
#endif
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
