// Polynomials in the features of a node, channel by channel: out[o] = sum_t coef[t] monomial(t).
// A monomial is its prefix (a shorter monomial, or 1) times one component of x. All numbers here
// are vectors over channels; coefficients and their gradients of one block of channels are kept
// side by side, so that blocks can be given to threads.
#pragma once
#include "shapes.h"

namespace tpcalc {
namespace TPCALC_ISA {

// Two vectors of channels at a time: half as many indices to read
template <class T> constexpr int poly_lanes = 2 * lanes<T>;
template <class T> struct Pair {
  Vec<T> a, b;
  TPCALC_INLINE Pair operator*(const Pair& o) const { return {a * o.a, b * o.b}; }
  TPCALC_INLINE Pair operator+(const Pair& o) const { return {a + o.a, b + o.b}; }
};

// rows of [rows, channels], channels c .. c + n, <-> rows of pairs; missing channels are zero
template <class T> void gather(const T* from, int64_t rows, int64_t channels, int n, T* to) {
  constexpr int W = poly_lanes<T>;
  for (int64_t r = 0; r < rows; r++, from += channels, to += W) {
    if (n == W) {
      store<T>(to, load<T>(from));
      store<T>(to + W / 2, load<T>(from + W / 2));
    } else {
      std::copy_n(from, n, to);
      std::fill_n(to + n, W - n, T(0));
    }
  }
}
template <class T> void scatter(const T* from, int64_t rows, int64_t channels, int n, T* to) {
  constexpr int W = poly_lanes<T>;
  for (int64_t r = 0; r < rows; r++, from += W, to += channels) {
    if (n == W) {
      store<T>(to, load<T>(from));
      store<T>(to + W / 2, load<T>(from + W / 2));
    } else {
      std::copy_n(from, n, to);
    }
  }
}

template <class T> class PolyBlock {
 public:
  PolyBlock(const PolyTable& table, const Poly& poly)
      : t_(table), p_(poly), x_(vectors(t_.d_in)), m_(vectors(t_.num_monomials)),
        gm_(vectors(t_.num_monomials)), gx_(vectors(t_.d_in)), g_(vectors(t_.d_out)),
        tx_(vectors(poly.tx ? t_.d_in : 0)), dm_(vectors(poly.tx ? t_.num_monomials : 0)),
        gdm_(vectors(poly.tx ? t_.num_monomials : 0)), a_(vectors(t_.num_terms * poly.kinds)),
        ta_(vectors(poly.tx ? t_.num_terms * poly.kinds : 0)),
        ga_(vectors(poly.gcoef ? t_.num_terms * poly.kinds : 0)) {}

  // channels c .. c + n of every node
  void forward(int64_t c, int n) {
    pack(p_.coef, c, n, a_);
    for (int64_t i = 0; i < p_.nodes; i++) {
      monomials(i, c, n);
      evaluate(coef(a_, i), m_.data(), false);
      write(p_.out, g_, t_.d_out, i, c, n);
    }
  }

  void backward(int64_t c, int n) {
    pack(p_.coef, c, n, a_);
    std::fill_n(ga_.data(), ga_.size(), T(0));
    for (int64_t i = 0; i < p_.nodes; i++) {
      monomials(i, c, n);
      read(p_.g, g_, t_.d_out, i, c, n);
      std::fill_n(gm_.data(), gm_.size(), T(0));
      std::fill_n(gx_.data(), gx_.size(), T(0));
      const T* a = coef(a_, i);
      for (int t = 0; t < t_.num_terms; t++)
        add(gm_.data(), t_.term_monomial[t], get(a, t) * get(g_.data(), t_.term_out[t]));
      if (p_.gcoef) {
        T* ga = coef(ga_, i);
        for (int t = 0; t < t_.num_terms; t++)
          add(ga, t, get(m_.data(), t_.term_monomial[t]) * get(g_.data(), t_.term_out[t]));
      }
      back_through(gm_.data(), m_.data(), nullptr);
      write(p_.gx, gx_, t_.d_in, i, c, n);
    }
    if (p_.gcoef) unpack(ga_, p_.gcoef, c, n);
  }

  // For tangents (tx, tcoef) of (gx, gcoef): gradients of sum_t g (coef dm + tcoef m), with dm
  // the change of the monomials along tx
  void double_backward(int64_t c, int n) {
    pack(p_.coef, c, n, a_);
    pack(p_.tcoef, c, n, ta_);
    std::fill_n(ga_.data(), ga_.size(), T(0));
    for (int64_t i = 0; i < p_.nodes; i++) {
      monomials(i, c, n);
      read(p_.tx, tx_, t_.d_in, i, c, n);
      changes();
      const T *a = coef(a_, i), *ta = coef(ta_, i);
      evaluate(a, dm_.data(), false);
      evaluate(ta, m_.data(), true);
      write(p_.out, g_, t_.d_out, i, c, n);
      read(p_.g, g_, t_.d_out, i, c, n);
      std::fill_n(gm_.data(), gm_.size(), T(0));
      std::fill_n(gdm_.data(), gdm_.size(), T(0));
      std::fill_n(gx_.data(), gx_.size(), T(0));
      T* ga = coef(ga_, i);
      for (int t = 0; t < t_.num_terms; t++) {
        const int m = t_.term_monomial[t];
        const Pair<T> g = get(g_.data(), t_.term_out[t]);
        add(gm_.data(), m, get(ta, t) * g);
        add(gdm_.data(), m, get(a, t) * g);
        add(ga, t, get(dm_.data(), m) * g);
      }
      back_through(gdm_.data(), dm_.data(), gm_.data());
      back_through(gm_.data(), m_.data(), nullptr);
      write(p_.gx, gx_, t_.d_in, i, c, n);
    }
    unpack(ga_, p_.gcoef, c, n);
  }

 private:
  static constexpr int W = poly_lanes<T>;
  static int64_t vectors(int64_t n) { return n * W; }
  static TPCALC_INLINE Pair<T> get(const T* p, int64_t i) {
    return {load<T>(p + i * W), load<T>(p + i * W + W / 2)};
  }
  static TPCALC_INLINE void set(T* p, int64_t i, const Pair<T>& v) {
    store<T>(p + i * W, v.a);
    store<T>(p + i * W + W / 2, v.b);
  }
  static TPCALC_INLINE void add(T* p, int64_t i, const Pair<T>& v) { set(p, i, get(p, i) + v); }

  T* coef(Buffer<T>& b, int64_t node) {
    return b.data() + (p_.species ? p_.species[node] : 0) * int64_t(t_.num_terms) * W;
  }
  void pack(const void* from, int64_t c, int n, Buffer<T>& to) {
    gather(static_cast<const T*>(from) + c, t_.num_terms * p_.kinds, p_.channels, n, to.data());
  }
  void unpack(Buffer<T>& from, void* to, int64_t c, int n) {
    scatter(from.data(), t_.num_terms * p_.kinds, p_.channels, n, static_cast<T*>(to) + c);
  }
  void read(const void* from, Buffer<T>& to, int rows, int64_t node, int64_t c, int n) {
    gather(static_cast<const T*>(from) + node * rows * p_.channels + c, rows, p_.channels, n,
           to.data());
  }
  void write(void* to, Buffer<T>& from, int rows, int64_t node, int64_t c, int n) {
    scatter(from.data(), rows, p_.channels, n,
            static_cast<T*>(to) + node * rows * p_.channels + c);
  }

  void monomials(int64_t node, int64_t c, int n) {
    read(p_.x, x_, t_.d_in, node, c, n);
    const T* x = x_.data();
    for (int k = 0; k < t_.num_monomials; k++) {
      Pair<T> v = get(x, t_.last[k]);
      if (t_.prefix[k] >= 0) v = v * get(m_.data(), t_.prefix[k]);
      set(m_.data(), k, v);
    }
  }
  void changes() {
    for (int k = 0; k < t_.num_monomials; k++) {
      const int p = t_.prefix[k], l = t_.last[k];
      Pair<T> v = get(tx_.data(), l);
      if (p >= 0) v = get(dm_.data(), p) * get(x_.data(), l) + get(m_.data(), p) * v;
      set(dm_.data(), k, v);
    }
  }
  // g_[o] (+)= sum over the terms of o, which follow one another
  void evaluate(const T* a, const T* m, bool adds) {
    int t = 0;
    for (int o = 0; o < t_.d_out; o++) {
      Pair<T> s[4] = {};
      for (; t + 4 <= t_.num_terms && t_.term_out[t + 3] == o; t += 4)
        TPCALC_UNROLL for (int q = 0; q < 4; q++)
          s[q] = s[q] + get(a, t + q) * get(m, t_.term_monomial[t + q]);
      for (; t < t_.num_terms && t_.term_out[t] == o; t++)
        s[0] = s[0] + get(a, t) * get(m, t_.term_monomial[t]);
      const Pair<T> sum = (s[0] + s[1]) + (s[2] + s[3]);
      set(g_.data(), o, adds ? get(g_.data(), o) + sum : sum);
    }
  }
  // From gradients gv of values v[k] = v[prefix] x[last] to those of x; where v are the changes
  // dm[k] = dm[prefix] x[last] + m[prefix] tx[last], also to those of m (gm)
  void back_through(T* gv, const T* v, T* gm) {
    const T *x = x_.data(), *tx = tx_.data();
    T* gx = gx_.data();
    for (int k = t_.num_monomials - 1; k >= 0;) {
      const int p = t_.prefix[k];
      if (p < 0) {
        if (!gm) add(gx, t_.last[k], get(gv, k));
        k--;
        continue;
      }
      Pair<T> sum = {}, sum_m = {};  // monomials with one prefix follow one another
      const Pair<T> vp = get(v, p);
      for (; k >= 0 && t_.prefix[k] == p; k--) {
        const int l = t_.last[k];
        const Pair<T> g = get(gv, k);
        sum = sum + g * get(x, l);
        if (gm) sum_m = sum_m + g * get(tx, l);
        add(gx, l, g * vp);
      }
      add(gv, p, sum);
      if (gm) add(gm, p, sum_m);
    }
  }

  const PolyTable& t_;
  const Poly& p_;
  Buffer<T> x_, m_, gm_, gx_, g_, tx_, dm_, gdm_, a_, ta_, ga_;
};

// order 0: values, 1: first, 2: second derivatives, for channels [begin, end)
template <class T>
void poly(const PolyTable& table, const Poly& poly, int order, int64_t begin, int64_t end) {
  PolyBlock<T> block(table, poly);
  for (int64_t c = begin; c < end; c += poly_lanes<T>) {
    const int n = static_cast<int>(std::min<int64_t>(poly_lanes<T>, end - c));
    if (order == 0) block.forward(c, n);
    if (order == 1) block.backward(c, n);
    if (order == 2) block.double_backward(c, n);
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
