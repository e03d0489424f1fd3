// The polynomials of trees.inc as straight-line code, vectors over channels: values, and
// gradients with respect to features (and coefficients) in one nested sum, and their derivatives.
#pragma once
#include "simd.h"

namespace tpcalc {
namespace TPCALC_ISA {

// Coefficients a [terms], features x [components]: rows of one vector. Adds to gx and ga.
template <class T> struct TreeCode {
  Vec<T> (*forward)(const T* a, const T* x);
  void (*backward)(const T* a, const T* x, Vec<T> g, T* gx, T* ga);  // ga may be null
  // for tangents ta, tx of gradients ga, gx: adds to gx and ga, returns that of g
  Vec<T> (*second)(const T* a, const T* ta, const T* x, const T* tx, Vec<T> g, T* gx, T* ga);
};

#define TPCALC_X(i) load<T>(x + (i) * lanes<T>)

// Values: t_i = a_i + sum_j (a_ij + sum_l a_ijl x_l) x_j
#define TREE(number, d, terms, words)                                    \
  template <class T> struct TreeForward##number {                        \
    static __attribute__((noinline)) Vec<T> run(const T* a, const T* x) { \
      constexpr int L = lanes<T>;                                        \
      Vec<T> out{};
#define I0(i) { Vec<T> t{};
#define I1(i) { Vec<T> t = load<T>(a); a += L;
#define J0(j) { Vec<T> u{};
#define J2(j) { Vec<T> u = load<T>(a); a += L;
#define X(l) u += load<T>(a) * TPCALC_X(l); a += L;
#define JE(j) t += u * TPCALC_X(j); }
#define IE(i) out += t * TPCALC_X(i); }
#define TREE_END(number) return out; } };
#include "trees.inc"

// Gradients: gx_i += g t_i, gx_j += g x_i u_ij, gx_l += g x_i x_j a_ijl, and of a the monomials
#define TREE(number, d, terms, words)                                                \
  template <class T, bool COEF> struct TreeBackward##number {                        \
    static __attribute__((noinline)) void run(const T* a, const T* x, Vec<T> g, T* gx, \
                                              T* ga) {                               \
      constexpr int L = lanes<T>, D = d;                                             \
      Vec<T> s[D];                                                                   \
      TPCALC_UNROLL for (int q = 0; q < D; q++) s[q] = load<T>(gx + q * L);
#define TPCALC_GA(v) if constexpr (COEF) { store<T>(ga, load<T>(ga) + (v)); ga += L; }
#define I0(i) { const Vec<T> vi = g * TPCALC_X(i); Vec<T> t{};
#define I1(i) { const Vec<T> vi = g * TPCALC_X(i); Vec<T> t = load<T>(a); a += L; TPCALC_GA(vi)
#define J0(j) { const Vec<T> vj = vi * TPCALC_X(j); Vec<T> u{};
#define J2(j) { const Vec<T> vj = vi * TPCALC_X(j); Vec<T> u = load<T>(a); a += L; TPCALC_GA(vj)
#define X(l)                                     \
  {                                              \
    const Vec<T> c = load<T>(a), xl = TPCALC_X(l); \
    u += c * xl;                                 \
    s[l] += vj * c;                              \
    a += L;                                      \
    TPCALC_GA(vj * xl)                           \
  }
#define JE(j) t += u * TPCALC_X(j); s[j] += vi * u; }
#define IE(i) s[i] += g * t; }
#define TREE_END(number)                                                   \
  TPCALC_UNROLL for (int q = 0; q < D; q++) store<T>(gx + q * L, s[q]); \
  }                                                                        \
  };
#include "trees.inc"
#undef TPCALC_GA

// The gradients once more with dual numbers: a d before a name is the change along (ta, tx)
#define TPCALC_TX(i) load<T>(tx + (i) * lanes<T>)
#define TREE(number, d, terms, words)                                                   \
  template <class T> struct TreeSecond##number {                                        \
    static __attribute__((noinline)) Vec<T> run(const T* a, const T* ta, const T* x,    \
                                                const T* tx, Vec<T> g, T* gx, T* ga) {  \
      constexpr int L = lanes<T>, D = d;                                                \
      Vec<T> ds[D], dout{};                                                             \
      TPCALC_UNROLL for (int q = 0; q < D; q++) ds[q] = load<T>(gx + q * L);
#define TPCALC_GA(v) { store<T>(ga, load<T>(ga) + (v)); ga += L; }
#define I0(i) { const Vec<T> vi = g * TPCALC_X(i), dvi = g * TPCALC_TX(i); Vec<T> t{}, dt{};
#define I1(i)                                                   \
  {                                                             \
    const Vec<T> vi = g * TPCALC_X(i), dvi = g * TPCALC_TX(i);  \
    Vec<T> t = load<T>(a), dt = load<T>(ta);                    \
    a += L, ta += L;                                            \
    TPCALC_GA(dvi)
#define TPCALC_VJ(j)                     \
  const Vec<T> vj = vi * TPCALC_X(j), dvj = dvi * TPCALC_X(j) + vi * TPCALC_TX(j);
#define J0(j) { TPCALC_VJ(j) Vec<T> u{}, du{};
#define J2(j)                                 \
  {                                           \
    TPCALC_VJ(j)                              \
    Vec<T> u = load<T>(a), du = load<T>(ta);  \
    a += L, ta += L;                          \
    TPCALC_GA(dvj)
#define X(l)                                                                            \
  {                                                                                     \
    const Vec<T> c = load<T>(a), dc = load<T>(ta), xl = TPCALC_X(l), dxl = TPCALC_TX(l); \
    u += c * xl, du += dc * xl, du += c * dxl;                                          \
    ds[l] += dvj * c, ds[l] += vj * dc;                                                 \
    a += L, ta += L;                                                                    \
    TPCALC_GA(dvj * xl + vj * dxl)                                                      \
  }
#define JE(j)                                                              \
  t += u * TPCALC_X(j), dt += du * TPCALC_X(j), dt += u * TPCALC_TX(j);    \
  ds[j] += dvi * u, ds[j] += vi * du; }
#define IE(i) dout += dt * TPCALC_X(i), dout += t * TPCALC_TX(i), ds[i] += g * dt; }
#define TREE_END(number)                                                  \
  TPCALC_UNROLL for (int q = 0; q < D; q++) store<T>(gx + q * L, ds[q]);  \
  return dout;                                                            \
  }                                                                       \
  };
#include "trees.inc"
#undef TPCALC_GA
#undef TPCALC_VJ
#undef TPCALC_TX
#undef TPCALC_X

#define TREE(number, d, terms, words) \
  {TreeForward##number<T>::run, TreeBackward##number<T, COEF>::run, TreeSecond##number<T>::run},
template <class T, bool COEF> const TreeCode<T>* tree_code() {
  static const TreeCode<T> code[] = {
#include "trees.inc"
  };
  return code;
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
