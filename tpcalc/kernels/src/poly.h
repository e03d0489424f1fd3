// Polynomials in the features of a node, channel by channel: out[o] = sum_t coef[t] monomial(t).
// A monomial is its prefix (a shorter monomial, or 1) times one component of x. All numbers here
// are vectors over channels; coefficients and their gradients of one block of channels are kept
// side by side.
#pragma once
#include "poly_abi.h"
#include "trees.h"

namespace tpcalc {
namespace TPCALC_ISA {

// Two vectors of channels at a time: half as many indices to read
template <class T> constexpr int poly_lanes = 2 * lanes<T>;
template <class T> struct Pair {
  Vec<T> a, b;
  TPCALC_INLINE Pair operator*(const Pair& o) const { return {a * o.a, b * o.b}; }
  TPCALC_INLINE Pair operator+(const Pair& o) const { return {a + o.a, b + o.b}; }
};

// rows of [rows, channels], channels c .. c + n, <-> rows of W; missing channels are zero
template <class T, int W>
void gather(const T* from, int64_t rows, int64_t channels, int n, T* to) {
  for (int64_t r = 0; r < rows; r++, from += channels, to += W) {
    if (n == W) {
      TPCALC_UNROLL for (int i = 0; i < W; i += lanes<T>) store<T>(to + i, load<T>(from + i));
    } else {
      std::copy_n(from, n, to);
      std::fill_n(to + n, W - n, T(0));
    }
  }
}
template <class T, int W>
void scatter(const T* from, int64_t rows, int64_t channels, int n, T* to) {
  for (int64_t r = 0; r < rows; r++, from += W, to += channels) {
    if (n == W) {
      TPCALC_UNROLL for (int i = 0; i < W; i += lanes<T>) store<T>(to + i, load<T>(from + i));
    } else {
      std::copy_n(from, n, to);
    }
  }
}

// Blocks of W channels. Nodes come in runs of one species, whose coefficients are packed once. A
// few nodes are copied whole, then take all the blocks: read a block at a time, features would
// come from memory in pieces too small and too far apart to be fetched ahead.
template <class T, int W> class PolyRows {
 public:
  PolyRows(const PolyTable& table, const Poly& poly, const PolyPart& part)
      : t_(table), p_(poly), part_(part), blocks_((part.channel_end - part.channel + W - 1) / W),
        g_(vectors(t_.d_out)), all_x_(blocks_ * kNodes * vectors(t_.d_in)),
        all_gx_(all_x_.size()), coef_(blocks_ * vectors(t_.num_terms)),
        tcoef_(poly.tx ? blocks_ * vectors(t_.num_terms) : 0),
        gcoef_(poly.gcoef ? blocks_ * vectors(t_.num_terms) : 0) {}

 protected:
  // one(node, first channel, channels) for each node in the order of species and each block; then
  // x_ are its features, gx_ their gradients to be written, a_, ta_ and ga_ the coefficients,
  // their tangents and gradients
  template <class F> void each_node(const F& one) {
    for (int64_t i = part_.node; i < part_.node_end;) {
      const int64_t kind = kind_of(i);
      int64_t end = i + 1;
      while (end < part_.node_end && kind_of(end) == kind) end++;
      pack(p_.coef, kind, coef_.data());
      if (p_.tx) pack(p_.tcoef, kind, tcoef_.data());
      std::fill_n(gcoef_.data(), gcoef_.size(), T(0));
      for (int64_t next; i < end; i = next) {
        next = std::min(i + kNodes, end);
        each_node_block(i, next, [&](int64_t at, int64_t first, int n) {
          gather<T, W>(static_cast<const T*>(p_.x) + at, t_.d_in, p_.channels, n,
                       all_x_.data() + first);
        });
        each_block([&](int64_t c, int n) {
          for (int64_t j = i; j < next; j++) {
            fetch(j + kNodes, c);
            const int64_t first = staged(c, j - i);
            x_ = all_x_.data() + first, gx_ = all_gx_.data() + first;
            one(node(j), c, n);
          }
        });
        if (!p_.gx) continue;
        each_node_block(i, next, [&](int64_t at, int64_t first, int n) {
          scatter<T, W>(all_gx_.data() + first, t_.d_in, p_.channels, n,
                        static_cast<T*>(p_.gx) + at);
        });
      }
      if (p_.gcoef)
        each_block([&](int64_t c, int n) {
          scatter<T, W>(ga_, t_.num_terms, p_.channels, n,
                        static_cast<T*>(p_.gcoef) + kind * t_.num_terms * p_.channels + c);
        });
    }
  }
  static int64_t vectors(int64_t n) { return n * W; }
  void read(const void* from, Buffer<T>& to, int rows, int64_t node, int64_t c, int n) {
    gather<T, W>(static_cast<const T*>(from) + node * rows * p_.channels + c, rows, p_.channels,
                 n, to.data());
  }
  void write(void* to, Buffer<T>& from, int rows, int64_t node, int64_t c, int n) {
    scatter<T, W>(from.data(), rows, p_.channels, n,
                  static_cast<T*>(to) + node * rows * p_.channels + c);
  }

  const PolyTable& t_;
  const Poly& p_;
  const PolyPart part_;
  const int64_t blocks_;
  Buffer<T> g_;
  T *x_ = nullptr, *gx_ = nullptr, *a_ = nullptr, *ta_ = nullptr, *ga_ = nullptr;

 private:
  static constexpr int64_t kNodes = 8;  // so many are copied at a time, which stays in the cache
  template <class F> void each_block(const F& one) {
    for (int64_t b = 0; b < blocks_; b++) {
      const int64_t c = part_.channel + b * W, first = b * vectors(t_.num_terms);
      a_ = coef_.data() + first;
      ta_ = p_.tx ? tcoef_.data() + first : nullptr;
      ga_ = p_.gcoef ? gcoef_.data() + first : nullptr;
      one(c, static_cast<int>(std::min<int64_t>(W, part_.channel_end - c)));
    }
  }
  int64_t node(int64_t i) const { return p_.order ? p_.order[i] : i; }
  int64_t kind_of(int64_t i) const { return p_.species ? p_.species[node(i)] : 0; }
  // Coefficients by blocks, read in their order: they come from memory
  void pack(const void* from, int64_t kind, T* to) {
    const T* row = static_cast<const T*>(from) + kind * t_.num_terms * p_.channels;
    for (int64_t t = 0; t < t_.num_terms; t++, row += p_.channels)
      for (int64_t b = 0, c = part_.channel; b < blocks_; b++, c += W)
        gather<T, W>(row + c, 1, 0, static_cast<int>(std::min<int64_t>(W, part_.channel_end - c)),
                     to + b * vectors(t_.num_terms) + t * W);
  }
  // Ask for a share of the features of a node that is copied later, one with each block
  void fetch(int64_t i, int64_t c) const {
    if (i >= part_.node_end) return;
    const int64_t bytes = t_.d_in * p_.channels * sizeof(T), share = bytes / blocks_ + 1;
    const char* x = static_cast<const char*>(p_.x) + node(i) * bytes;
    const int64_t from = (c - part_.channel) / W * share;
    for (int64_t n = from; n < std::min(from + share, bytes); n += 64) __builtin_prefetch(x + n, 0, 2);
  }
  // where the rows of the j-th staged node begin, channels from c on
  int64_t staged(int64_t c, int64_t j) const {
    return ((c - part_.channel) / W * kNodes + j) * vectors(t_.d_in);
  }
  // f(place in x, place in all_x_, channels), a node after the other
  template <class F> void each_node_block(int64_t begin, int64_t end, const F& f) {
    for (int64_t j = begin; j < end; j++)
      each_block([&](int64_t c, int n) {
        f(node(j) * t_.d_in * p_.channels + c, staged(c, j - begin), n);
      });
  }
  Buffer<T> all_x_, all_gx_, coef_, tcoef_, gcoef_;
};

// Any table: monomials are made one after another
template <class T> class PolyBlock : PolyRows<T, poly_lanes<T>> {
  using Base = PolyRows<T, poly_lanes<T>>;
  using Base::a_, Base::ta_, Base::ga_, Base::x_, Base::gx_, Base::g_, Base::t_, Base::p_;
  using Base::each_node, Base::read, Base::write, Base::vectors;

 public:
  PolyBlock(const PolyTable& table, const Poly& poly, const PolyPart& part)
      : Base(table, poly, part), m_(vectors(t_.num_monomials)), gm_(vectors(t_.num_monomials)),
        tx_(vectors(poly.tx ? t_.d_in : 0)), dm_(vectors(poly.tx ? t_.num_monomials : 0)),
        gdm_(vectors(poly.tx ? t_.num_monomials : 0)) {}

  void run(int order) {
    each_node([&](int64_t i, int64_t c, int n) {
      monomials(i, c, n);
      if (order == 0) forward(i, c, n);
      if (order == 1) backward(i, c, n);
      if (order == 2) double_backward(i, c, n);
    });
  }

 private:
  void forward(int64_t i, int64_t c, int n) {
    evaluate(a_, m_.data(), false);
    write(p_.out, g_, t_.d_out, i, c, n);
  }

  void backward(int64_t i, int64_t c, int n) {
    read(p_.g, g_, t_.d_out, i, c, n);
    std::fill_n(gm_.data(), gm_.size(), T(0));
    std::fill_n(gx_, vectors(t_.d_in), T(0));
    const T* a = a_;
    for (int t = 0; t < t_.num_terms; t++)
      add(gm_.data(), t_.term_monomial[t], get(a, t) * get(g_.data(), t_.term_out[t]));
    if (p_.gcoef)
      for (int t = 0; t < t_.num_terms; t++)
        add(ga_, t, get(m_.data(), t_.term_monomial[t]) * get(g_.data(), t_.term_out[t]));
    back_through(gm_.data(), m_.data(), nullptr);
  }

  // For tangents (tx, tcoef) of (gx, gcoef): gradients of sum_t g (coef dm + tcoef m), with dm
  // the change of the monomials along tx
  void double_backward(int64_t i, int64_t c, int n) {
    read(p_.tx, tx_, t_.d_in, i, c, n);
    changes();
    const T *a = a_, *ta = ta_;
    evaluate(a, dm_.data(), false);
    evaluate(ta, m_.data(), true);
    write(p_.out, g_, t_.d_out, i, c, n);
    read(p_.g, g_, t_.d_out, i, c, n);
    std::fill_n(gm_.data(), gm_.size(), T(0));
    std::fill_n(gdm_.data(), gdm_.size(), T(0));
    std::fill_n(gx_, vectors(t_.d_in), T(0));
    for (int t = 0; t < t_.num_terms; t++) {
      const int m = t_.term_monomial[t];
      const Pair<T> g = get(g_.data(), t_.term_out[t]);
      add(gm_.data(), m, get(ta, t) * g);
      add(gdm_.data(), m, get(a, t) * g);
      add(ga_, t, get(dm_.data(), m) * g);
    }
    back_through(gdm_.data(), dm_.data(), gm_.data());
    back_through(gm_.data(), m_.data(), nullptr);
  }

  static constexpr int W = poly_lanes<T>;
  static TPCALC_INLINE Pair<T> get(const T* p, int64_t i) {
    return {load<T>(p + i * W), load<T>(p + i * W + W / 2)};
  }
  static TPCALC_INLINE void set(T* p, int64_t i, const Pair<T>& v) {
    store<T>(p + i * W, v.a);
    store<T>(p + i * W + W / 2, v.b);
  }
  static TPCALC_INLINE void add(T* p, int64_t i, const Pair<T>& v) { set(p, i, get(p, i) + v); }

  void monomials(int64_t node, int64_t c, int n) {
    const T* x = x_;
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
      if (p >= 0) v = get(dm_.data(), p) * get(x_, l) + get(m_.data(), p) * v;
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
    const T *x = x_, *tx = tx_.data();
    T* gx = gx_;
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

  Buffer<T> m_, gm_, tx_, dm_, gdm_;
};

// Tables whose outputs all are compiled trees
template <class T> class TreeBlock : PolyRows<T, lanes<T>> {
  using Base = PolyRows<T, lanes<T>>;
  using Base::a_, Base::ta_, Base::ga_, Base::x_, Base::gx_, Base::g_, Base::t_, Base::p_;
  using Base::each_node, Base::read, Base::write, Base::vectors;

 public:
  TreeBlock(const PolyTable& table, const Poly& poly, const PolyPart& part)
      : Base(table, poly, part), tx_(vectors(poly.tx ? t_.d_in : 0)),
        code_(poly.gcoef ? tree_code<T, true>() : tree_code<T, false>()) {}

  void run(int order) {
    each_node([&](int64_t i, int64_t c, int n) {
      if (order == 0) forward(i, c, n);
      if (order == 1) backward(i, c, n);
      if (order == 2) double_backward(i, c, n);
    });
  }

 private:
  static constexpr int L = lanes<T>;
  void forward(int64_t i, int64_t c, int n) {
    for (int o = 0; o < t_.d_out; o++)
      store<T>(g_.data() + o * L, code_[t_.tree[o]].forward(a_ + t_.tree_first[o] * L, x_));
    write(p_.out, g_, t_.d_out, i, c, n);
  }
  void backward(int64_t i, int64_t c, int n) {
    read(p_.g, g_, t_.d_out, i, c, n);
    std::fill_n(gx_, vectors(t_.d_in), T(0));
    for (int o = 0; o < t_.d_out; o++) {
      const int first = t_.tree_first[o] * L;
      code_[t_.tree[o]].backward(a_ + first, x_, load<T>(g_.data() + o * L),
                                 gx_, p_.gcoef ? ga_ + first : nullptr);
    }
  }
  void double_backward(int64_t i, int64_t c, int n) {
    read(p_.tx, tx_, t_.d_in, i, c, n);
    read(p_.g, g_, t_.d_out, i, c, n);
    std::fill_n(gx_, vectors(t_.d_in), T(0));
    for (int o = 0; o < t_.d_out; o++) {
      const int first = t_.tree_first[o] * L;
      T* g = g_.data() + o * L;
      store<T>(g, code_[t_.tree[o]].second(a_ + first, ta_ + first, x_, tx_.data(), load<T>(g), gx_,
                                           ga_ + first));
    }
    write(p_.out, g_, t_.d_out, i, c, n);
  }

  Buffer<T> tx_;
  const TreeCode<T>* code_;
};

// order 0: values, 1: first, 2: second derivatives
template <class T>
void poly(const PolyTable& table, const Poly& poly, int order, const PolyPart& part) {
  if (table.tree)
    TreeBlock<T>(table, poly, part).run(order);
  else
    PolyBlock<T>(table, poly, part).run(order);
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
