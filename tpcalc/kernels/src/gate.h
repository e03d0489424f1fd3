// The gated non-linearity: scalars through an activation, blocks times SiLU of their gates.
#pragma once
#include "activation.h"
#include "step_abi.h"

namespace tpcalc {
namespace TPCALC_ISA {

// Activations (and slopes) of the scalars of one node, on whole vectors
template <class T> struct GateScalars {
  const Gate& t;
  int64_t wide;
  Buffer<T> value, slope, odd, odd_slope;

  explicit GateScalars(const Gate& t)
      : t(t), wide(t.even + t.gates), value(wide + lanes<T>), slope(wide + lanes<T>),
        odd(t.odd + lanes<T>), odd_slope(t.odd + lanes<T>) {}

  void set(const T* x) {
    const Vec<T> silu = broadcast<T>(static_cast<T>(t.silu)), one = broadcast<T>(T(1));
    const Vec<T> tanh = broadcast<T>(static_cast<T>(t.tanh));
    std::copy_n(x, t.odd, odd.data());
    std::copy_n(x + t.odd, wide, value.data());
    for (int64_t i = 0; i < t.odd; i += lanes<T>) {
      const Vec<T> v = hyperbolic_tangent<T>(load<T>(odd.data() + i));
      store<T>(odd.data() + i, tanh * v);
      store<T>(odd_slope.data() + i, tanh * (one - v * v));
    }
    for (int64_t i = 0; i < wide; i += lanes<T>) {
      const Vec<T> v = load<T>(value.data() + i), s = sigmoid<T>(v);
      store<T>(value.data() + i, silu * v * s);
      store<T>(slope.data() + i, silu * silu_slope<T>(v, s));
    }
  }
};

template <class T> void gate(const Gate& t, int64_t first, int64_t last) {
  GateScalars<T> scalars(t);
  for (int64_t node = first; node < last; node++) {
    const T* x = static_cast<const T*>(t.x) + node * t.in;
    T* y = static_cast<T*>(t.y) + node * t.out;
    scalars.set(x);
    y = std::copy_n(scalars.odd.data(), t.odd, y);
    y = std::copy_n(scalars.value.data(), t.even, y);
    x += t.odd + scalars.wide;
    const T* gate = scalars.value.data() + t.even;
    for (int64_t b = 0; b < t.num_blocks; b++) {
      const int64_t channels = t.blocks[2 * b];
      for (int64_t k = 0; k < t.blocks[2 * b + 1]; k++, x += channels, y += channels)
        for (int64_t c = 0; c < channels; c++) y[c] = x[c] * gate[c];
      gate += channels;
    }
  }
}

template <class T> void gate_backward(const Gate& t, int64_t first, int64_t last) {
  GateScalars<T> scalars(t);
  for (int64_t node = first; node < last; node++) {
    const T* x = static_cast<const T*>(t.x) + node * t.in;
    const T* g = static_cast<const T*>(t.g) + node * t.out;
    T* gx = static_cast<T*>(t.gx) + node * t.in;
    scalars.set(x);
    for (int64_t i = 0; i < t.odd; i++) gx[i] = g[i] * scalars.odd_slope.data()[i];
    g += t.odd, gx += t.odd;
    const T *value = scalars.value.data(), *slope = scalars.slope.data();
    for (int64_t i = 0; i < t.even; i++) gx[i] = g[i] * slope[i];
    T* gates = gx + t.even;
    std::fill_n(gates, t.gates, T(0));
    x += t.odd + scalars.wide, g += t.even, gx += scalars.wide;
    for (int64_t b = 0, at = t.even; b < t.num_blocks; b++) {
      const int64_t channels = t.blocks[2 * b], dim = t.blocks[2 * b + 1];
      for (int64_t k = 0; k < dim; k++, x += channels, g += channels, gx += channels)
        for (int64_t c = 0; c < channels; c++) {
          gx[c] = g[c] * value[at + c];
          gates[c] += g[c] * x[c];
        }
      for (int64_t c = 0; c < channels; c++) gates[c] *= slope[at + c];
      gates += channels, at += channels;
    }
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
