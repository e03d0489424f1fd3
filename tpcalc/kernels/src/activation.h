// exp and what is made of it, by vectors.
#pragma once
#include "simd.h"

namespace tpcalc {
namespace TPCALC_ISA {

template <class T> struct Exp;
template <> struct Exp<float> {
  static constexpr float limit = 87, magic = 12582912, hi = 0.693359375f, lo = -2.12194440e-4f;
  static constexpr int mantissa = 23, degree = 7;
};
template <> struct Exp<double> {
  static constexpr double limit = 708, magic = 6755399441055744.0, hi = 0.693147180369123816490,
                          lo = 1.90821492927058770002e-10;
  static constexpr int mantissa = 52, degree = 13;
};

// e^x to two units in the last place for |x| up to the limit, its value there beyond
template <class T> TPCALC_INLINE Vec<T> exponential(Vec<T> x) {
  using E = Exp<T>;
  using Bits = typename Vector<T>::index;
  const Vec<T> limit = broadcast<T>(E::limit), magic = broadcast<T>(E::magic);
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Vec<T> shifted = x * broadcast<T>(T(1.4426950408889634)) + magic;  // rounds to n
  const Vec<T> n = shifted - magic;
  const Vec<T> r = x - n * broadcast<T>(E::hi) - n * broadcast<T>(E::lo);
  Vec<T> p = broadcast<T>(T(1));
  TPCALC_UNROLL for (int d = E::degree; d > 0; d--)  // Taylor: |r| <= log(2) / 2
    p = p * r * broadcast<T>(T(1.0 / d)) + broadcast<T>(T(1));
  const Bits scaled = (Bits)p + ((Bits)shifted << E::mantissa);  // times 2^n
  return (Vec<T>)scaled;
}

template <class T> TPCALC_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one = broadcast<T>(T(1));
  return one / (one + exponential<T>(-x));
}

// d/dx of x sigmoid(x), s its sigmoid
template <class T> TPCALC_INLINE Vec<T> silu_slope(Vec<T> x, Vec<T> s) {
  const Vec<T> one = broadcast<T>(T(1));
  return s * (one + x * (one - s));
}

template <class T> TPCALC_INLINE Vec<T> hyperbolic_tangent(Vec<T> x) {
  const Vec<T> one = broadcast<T>(T(1));
  return one - (one + one) / (one + exponential<T>(x + x));
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
