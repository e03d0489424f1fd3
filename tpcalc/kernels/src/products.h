// Weights that are products of three blocks of columns, summed over terms, and two derivatives.
#pragma once
#include "simd.h"
#include "step_abi.h"

namespace tpcalc {
namespace TPCALC_ISA {

// f(path, offsets of its three blocks, first of the terms?) for one row
template <class F> TPCALC_INLINE void each_product(const Products& p, const F& f) {
  for (int64_t t = 0; t < p.terms; t++)
    for (int64_t q = 0; q < p.paths; q++) {
      const int64_t* at = p.blocks + 3 * (t * p.paths + q);
      f(q * p.channels, at[0] * p.channels, at[1] * p.channels, at[2] * p.channels, t == 0);
    }
}

// f(T* of a vector or a number in each of `n` channels): whole vectors, then one by one
template <class T, class F> TPCALC_INLINE void each_channel(int64_t n, const F& f) {
  int64_t k = 0;
  for (; k + lanes<T> <= n; k += lanes<T>)
    f(k, [](const T* x) { return load<T>(x); }, [](T* x, Vec<T> v) { store<T>(x, v); });
  for (; k < n; k++)
    f(k, [](const T* x) { return *x; }, [](T* x, T v) { *x = v; });
}

template <class T> void products(const Products& p, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* x = static_cast<const T*>(p.x) + row * p.in * p.channels;
    T* y = static_cast<T*>(p.y) + row * p.paths * p.channels;
    each_product(p, [&](int64_t q, int64_t a, int64_t b, int64_t c, bool fresh) {
      each_channel<T>(p.channels, [&](int64_t k, auto get, auto put) {
        const auto made = get(x + a + k) * get(x + b + k) * get(x + c + k);
        put(y + q + k, fresh ? made : get(y + q + k) + made);
      });
    });
  }
}

// Three blocks of the result may be one: each is read after the one before is written
template <class T> void products_backward(const Products& p, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* x = static_cast<const T*>(p.x) + row * p.in * p.channels;
    const T* g = static_cast<const T*>(p.g) + row * p.paths * p.channels;
    T* gx = static_cast<T*>(p.gx) + row * p.in * p.channels;
    std::fill_n(gx, p.in * p.channels, T(0));
    each_product(p, [&](int64_t q, int64_t a, int64_t b, int64_t c, bool) {
      each_channel<T>(p.channels, [&](int64_t k, auto get, auto put) {
        const auto v = get(g + q + k), xa = get(x + a + k), xb = get(x + b + k), xc = get(x + c + k);
        put(gx + a + k, get(gx + a + k) + v * xb * xc);
        put(gx + b + k, get(gx + b + k) + v * xa * xc);
        put(gx + c + k, get(gx + c + k) + v * xa * xb);
      });
    });
  }
}

// The derivative of dx . gx by g and by x
template <class T> void products_double_backward(const Products& p, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const int64_t at_x = row * p.in * p.channels, at_g = row * p.paths * p.channels;
    const T *x = static_cast<const T*>(p.x) + at_x, *d = static_cast<const T*>(p.dx) + at_x;
    const T* g = static_cast<const T*>(p.g) + at_g;
    T *gx = static_cast<T*>(p.gx) + at_x, *gg = static_cast<T*>(p.gg) + at_g;
    std::fill_n(gx, p.in * p.channels, T(0));
    each_product(p, [&](int64_t q, int64_t a, int64_t b, int64_t c, bool fresh) {
      each_channel<T>(p.channels, [&](int64_t k, auto get, auto put) {
        const auto v = get(g + q + k), xa = get(x + a + k), xb = get(x + b + k), xc = get(x + c + k);
        const auto da = get(d + a + k), db = get(d + b + k), dc = get(d + c + k);
        const auto bc = db * xc + xb * dc, ac = da * xc + xa * dc, ab = da * xb + xa * db;
        const auto made = da * xb * xc + xa * bc;
        put(gg + q + k, fresh ? made : get(gg + q + k) + made);
        put(gx + a + k, get(gx + a + k) + v * bc);
        put(gx + b + k, get(gx + b + k) + v * ac);
        put(gx + c + k, get(gx + c + k) + v * ab);
      });
    });
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
