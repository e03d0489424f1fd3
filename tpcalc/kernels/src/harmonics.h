// Spherical harmonics by recursion over the degree, a vector of edges at a time.
#pragma once
#include <cmath>

#include "simd.h"
#include "step_abi.h"

namespace tpcalc {
namespace TPCALC_ISA {

template <class T> struct HarmonicsChunk {
  static constexpr int L = lanes<T>;
  const Harmonics& t;
  int64_t dim;
  Buffer<T> y, g;
  Vec<T> scale;  // sqrt(3) / length

  explicit HarmonicsChunk(const Harmonics& t)
      : t(t), dim((t.lmax + 1) * (t.lmax + 1)), y(dim * L), g(dim * L) {}

  T* of(Buffer<T>& b, int64_t l) { return b.data() + l * l * L; }  // degree l
  void set(int64_t first, int n) {
    T v[3][L] = {}, inverse[L];
    for (int e = 0; e < L; e++) inverse[e] = T(1.7320508075688772);
    for (int e = 0; e < n; e++) {
      T length2 = 0;
      for (int c = 0; c < 3; c++) {
        v[c][e] = static_cast<const T*>(t.vectors)[(first + e) * 3 + c];
        length2 += v[c][e] * v[c][e];
      }
      if (length2 > 0) inverse[e] /= std::sqrt(length2);
    }
    scale = load<T>(inverse);
    store<T>(y.data(), broadcast<T>(T(1)));
    for (int c = 0; c < 3 && t.lmax > 0; c++)
      store<T>(of(y, 1) + c * L, load<T>(v[c]) * scale);
    for (int64_t l = 2; l <= t.lmax; l++) degree(l);
  }
  void degree(int64_t l) {
    const T *before = of(y, l - 1), *one = of(y, 1);
    T* now = of(y, l);
    std::fill_n(now, (2 * l + 1) * L, T(0));
    for (int64_t n = t.first[l]; n < t.first[l + 1]; n++) {
      const HarmonicsEntry& c = t.entries[n];
      store<T>(now + c.k * L, load<T>(now + c.k * L) + broadcast<T>(static_cast<T>(c.coef)) *
                                  load<T>(before + c.i * L) * load<T>(one + c.j * L));
    }
  }
  void degree_backward(int64_t l) {
    const T *before = of(y, l - 1), *one = of(y, 1), *from = of(g, l);
    T *to = of(g, l - 1), *g1 = of(g, 1);
    for (int64_t n = t.first[l]; n < t.first[l + 1]; n++) {
      const HarmonicsEntry& c = t.entries[n];
      const Vec<T> s = broadcast<T>(static_cast<T>(c.coef)) * load<T>(from + c.k * L);
      store<T>(to + c.i * L, load<T>(to + c.i * L) + s * load<T>(one + c.j * L));
      store<T>(g1 + c.j * L, load<T>(g1 + c.j * L) + s * load<T>(before + c.i * L));
    }
  }
  void backward(int64_t first, int n) {
    for (int e = 0; e < n; e++)
      for (int64_t j = 0; j < dim; j++)
        g.data()[j * L + e] = static_cast<const T*>(t.g)[(first + e) * dim + j];
    for (int64_t l = t.lmax; l > 1; l--) degree_backward(l);
    Vec<T> along = {};  // of the direction: y_1 does not change with the length
    for (int c = 0; c < 3 && t.lmax > 0; c++)
      along += load<T>(of(g, 1) + c * L) * load<T>(of(y, 1) + c * L);
    for (int c = 0; c < 3; c++) {
      Vec<T> v = {};
      if (t.lmax > 0)
        v = scale * (load<T>(of(g, 1) + c * L) -
                     along * load<T>(of(y, 1) + c * L) * broadcast<T>(T(1) / 3));
      for (int e = 0; e < n; e++) static_cast<T*>(t.gv)[(first + e) * 3 + c] = v[e];
    }
  }
};

template <class T> void harmonics(const Harmonics& t, int64_t first, int64_t last) {
  HarmonicsChunk<T> chunk(t);
  for (int64_t at = first; at < last; at += lanes<T>) {
    const int n = static_cast<int>(std::min<int64_t>(lanes<T>, last - at));
    chunk.set(at, n);
    for (int e = 0; e < n; e++)
      for (int64_t j = 0; j < chunk.dim; j++)
        static_cast<T*>(t.y)[(at + e) * chunk.dim + j] = chunk.y.data()[j * lanes<T> + e];
  }
}

template <class T> void harmonics_backward(const Harmonics& t, int64_t first, int64_t last) {
  HarmonicsChunk<T> chunk(t);
  for (int64_t at = first; at < last; at += lanes<T>) {
    const int n = static_cast<int>(std::min<int64_t>(lanes<T>, last - at));
    chunk.set(at, n);
    chunk.backward(at, n);
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
