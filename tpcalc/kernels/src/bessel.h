// Lengths of edges and Bessel functions of them under a cutoff, in double, a vector of edges at a
// time; edge vectors and features are T.
#pragma once
#include <cmath>

#include "simd.h"
#include "step_abi.h"

namespace tpcalc {
namespace TPCALC_ISA {

using Real = Vec<double>;
struct SinCos {
  Real sin, cos;
};

// The sine alone, as `sin_cos`, by halves of the circle
TPCALC_INLINE Real sine(Real x) {
  using Bits = Vector<double>::index;
  const auto c = [](double v) { return broadcast<double>(v); };
  const Real shifted = x * c(0.31830988618379067) + c(6755399441055744.0);
  const Real n = shifted - c(6755399441055744.0);
  const Real r = x - n * c(3.14159265346825122833) - n * c(1.21542010130123844986e-10), r2 = r * r;
  Real s = c(1);
  TPCALC_UNROLL for (int d = 21; d > 1; d -= 2) s = c(1) - s * (r2 * c(1.0 / (d * (d - 1))));
  return (Real)((Bits)(s * r) ^ ((Bits)shifted << 63));
}

// To two units in the last place for |x| < 1e6 (quadrants of pi / 2 in two parts, Taylor)
TPCALC_INLINE SinCos sin_cos(Real x) {
  using Bits = Vector<double>::index;
  const auto c = [](double v) { return broadcast<double>(v); };
  const Real shifted = x * c(0.6366197723675814) + c(6755399441055744.0);  // rounds to n
  const Real n = shifted - c(6755399441055744.0);
  const Real r = x - n * c(1.57079632673412561417) - n * c(6.07710050650619224932e-11), r2 = r * r;
  Real s = c(1), k = c(1);
  TPCALC_UNROLL for (int d = 15; d > 1; d -= 2) s = c(1) - s * (r2 * c(1.0 / (d * (d - 1))));
  TPCALC_UNROLL for (int d = 16; d > 0; d -= 2) k = c(1) - k * (r2 * c(1.0 / (d * (d - 1))));
  s *= r;
  const Bits q = (Bits)shifted, one = q - q + 1, two = one + one;
  const Bits odd = (q & one) == one, flip_sin = (q & two) << 62, flip_cos = ((q + one) & two) << 62;
  return {(Real)((Bits)(odd ? k : s) ^ flip_sin), (Real)((Bits)(odd ? s : k) ^ flip_cos)};
}

// x^p for x > 0
TPCALC_INLINE Real power(Real x, double p) {
  Real y = broadcast<double>(1);
  if (p >= 0 && p <= 64 && p == std::floor(p)) {
    for (int n = static_cast<int>(p); n > 0; n /= 2, x *= x)
      if (n % 2) y *= x;
  } else {
    for (int e = 0; e < lanes<double>; e++) y[e] = std::pow(x[e], p);
  }
  return y;
}

struct Envelope {
  Real value, slope;
};

// As tpcalc.nn.cutoff has them
TPCALC_INLINE Envelope envelope(const Bessel& t, Real r) {
  const auto c = [](double v) { return broadcast<double>(v); };
  const Real zero = {}, one = c(1);
  if (t.kind == Bessel::polynomial) {
    const double p = t.parameter;
    const Real x = r * c(1 / t.cutoff), below = power(x, p - 1), rest = one - x;
    const Real value = one - below * x * (c((p + 1) * (p + 2) / 2) - c(p * (p + 2)) * x +
                                          c(p * (p + 1) / 2) * x * x);
    const Real slope = c(-p * (p + 1) * (p + 2) / (2 * t.cutoff)) * below * rest * rest;
    return {x < one ? value : zero, x < one ? slope : zero};
  }
  if (t.kind == Bessel::xplor) {
    const double on2 = t.parameter * t.parameter, off2 = t.cutoff * t.cutoff;
    const double norm = 1 / ((off2 - on2) * (off2 - on2) * (off2 - on2));
    const Real r2 = r * r, rest = c(off2) - r2, onset = c(t.parameter), end = c(t.cutoff);
    const Real value = rest * rest * (c(off2 - 3 * on2) + r2 + r2) * c(norm);
    const Real slope = c(12 * norm) * r * rest * (c(on2) - r2);
    return {r < end ? (r < onset ? one : value) : zero,
            r < end ? (r < onset ? zero : slope) : zero};
  }
  return {one, zero};
}

// Edge vectors and lengths of `n` edges; lanes beyond them are one long
template <class T> TPCALC_INLINE Real lengths(const Bessel& t, int64_t first, int n, Real v[3]) {
  for (int c = 0; c < 3; c++) v[c] = broadcast<double>(c == 0);
  for (int e = 0; e < n; e++)
    for (int c = 0; c < 3; c++)
      v[c][e] = static_cast<double>(static_cast<const T*>(t.vectors)[(first + e) * 3 + c]);
  Real r = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
  for (int e = 0; e < lanes<double>; e++) r[e] = std::sqrt(r[e]);
  return r;
}

template <class T> void bessel(const Bessel& t, int64_t first, int64_t last) {
  constexpr int L = lanes<double>;
  for (int64_t at = first; at < last; at += L) {
    const int n = static_cast<int>(std::min<int64_t>(L, last - at));
    Real v[3];
    const Real r = lengths<T>(t, at, n, v);
    for (int e = 0; e < n; e++) t.lengths[at + e] = r[e];
    T* y = static_cast<T*>(t.y) + at * t.num;
    if (t.kind == Bessel::length)
      for (int e = 0; e < n; e++) y[e] = static_cast<T>(r[e]);
    if (t.kind == Bessel::length || t.num == 0) continue;
    const Real scale = broadcast<double>(t.prefactor) * envelope(t, r).value / r;
    for (int64_t k = 0; k < t.num; k++) {
      const Real f = sine(r * broadcast<double>(t.frequencies[k])) * scale;
      for (int e = 0; e < n; e++) y[e * t.num + k] = static_cast<T>(f[e]);
    }
  }
}

// gv = v / r times the slope of the features, times g, plus the gradient of the length
template <class T> void bessel_backward(const Bessel& t, int64_t first, int64_t last) {
  constexpr int L = lanes<double>;
  for (int64_t at = first; at < last; at += L) {
    const int n = static_cast<int>(std::min<int64_t>(L, last - at));
    Real v[3];
    const Real r = lengths<T>(t, at, n, v), inverse = broadcast<double>(1) / r;
    Real by_sin = {}, by_cos = {}, total = {};  // sums of g sin(w r) and g w cos(w r)
    const T* g = static_cast<const T*>(t.g) + at * t.num;
    const int64_t waves = t.kind == Bessel::length ? 0 : t.num;
    if (t.kind == Bessel::length && t.num > 0)
      for (int e = 0; e < n; e++) total[e] = static_cast<double>(g[e]);
    for (int64_t k = 0; k < waves; k++) {
      const Real w = broadcast<double>(t.frequencies[k]);
      const SinCos f = sin_cos(r * w);
      Real own = {};
      for (int e = 0; e < n; e++) own[e] = static_cast<double>(g[e * t.num + k]);
      by_sin += own * f.sin, by_cos += own * w * f.cos;
    }
    if (waves > 0) {
      const Envelope cut = envelope(t, r);
      total = broadcast<double>(t.prefactor) * inverse *
              (by_cos * cut.value + by_sin * (cut.slope - cut.value * inverse));
    }
    if (t.glengths)
      for (int e = 0; e < n; e++) total[e] += t.glengths[at + e];
    total *= inverse;
    T* gv = static_cast<T*>(t.gv) + at * 3;
    for (int c = 0; c < 3; c++) {
      const Real own = total * v[c];
      for (int e = 0; e < n; e++) gv[e * 3 + c] = static_cast<T>(own[e]);
    }
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
