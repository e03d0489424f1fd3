// tpcalc::bessel: lengths of edges and their radial features as one op, in double inside.
#pragma once
#include <ATen/ops/div.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <tuple>
#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

using Pair = std::tuple<Tensor, Tensor>;

// cutoff: kind, radius, parameter, as `operands` of the classes in tpcalc.nn.cutoff; of kind
// `length` the only feature is the length
inline Bessel bessel_of(const Tensor& vectors, const Tensor& frequencies, double prefactor,
                        at::ArrayRef<double> cutoff) {
  check_matrix("bessel", "edge vectors", vectors, 3);
  TORCH_CHECK(frequencies.dim() == 1 && frequencies.is_cpu() && frequencies.is_contiguous() &&
                  frequencies.scalar_type() == at::kDouble,
              "tpcalc::bessel: frequencies must be a float64 CPU vector, got ", frequencies.sizes(),
              " ", frequencies.scalar_type(), " on ", frequencies.device());
  TORCH_CHECK(cutoff.size() == 3 && cutoff[0] >= 0 && cutoff[0] <= Bessel::length &&
                  cutoff[0] == std::floor(cutoff[0]),
              "tpcalc::bessel: cutoff ", cutoff, "; it must be [kind, radius, parameter], kind 0 to "
              "3");
  Bessel t{};
  t.vectors = vectors.data_ptr(), t.frequencies = frequencies.data_ptr<double>();
  t.kind = static_cast<int64_t>(cutoff[0]), t.cutoff = cutoff[1], t.parameter = cutoff[2];
  t.num = t.kind == Bessel::length ? 1 : frequencies.size(0), t.prefactor = prefactor;
  return t;
}

inline Tensor envelope_by_ops(const Tensor& r, at::ArrayRef<double> cutoff) {
  const double end = cutoff[1], p = cutoff[2];
  if (cutoff[0] == Bessel::polynomial) {
    const Tensor x = at::div(r, end);
    const Tensor rest = at::mul(x, at::mul(x, p * (p + 1) / 2).sub(p * (p + 2)));
    const Tensor fall = at::mul(at::pow(x, p), rest.add((p + 1) * (p + 2) / 2)).neg().add(1);
    return at::where(x.lt(1), fall, at::zeros_like(x));
  }
  if (cutoff[0] == Bessel::xplor) {
    const double on2 = p * p, off2 = end * end, norm = (off2 - on2) * (off2 - on2) * (off2 - on2);
    const Tensor r2 = at::mul(r, r), rest = r2.neg().add(off2);
    const Tensor fall = at::mul(at::mul(rest, rest), at::mul(r2, 2).add(off2 - 3 * on2)).div(norm);
    return at::where(r.lt(p), at::ones_like(r), at::where(r.lt(end), fall, at::zeros_like(r)));
  }
  return at::ones_like(r);
}

inline variable_list bessel_by_ops(const Tensor& vectors, const Tensor& frequencies,
                                   double prefactor, at::ArrayRef<double> cutoff) {
  const Tensor v = vectors.to(at::kDouble), r = at::sqrt(at::sum(at::mul(v, v), 1));
  if (cutoff[0] == Bessel::length) return {r.unsqueeze(1).to(vectors.scalar_type()), r};
  const Tensor scale = at::div(at::mul(envelope_by_ops(r, cutoff), prefactor), r).unsqueeze(1);
  const Tensor waves = at::sin(at::mul(r.unsqueeze(1), frequencies));
  return {at::mul(waves, scale).to(vectors.scalar_type()), r};
}

inline int64_t bessel_flops(const Bessel& t) { return 40 * t.num + 60; }

Pair bessel(const Tensor& vectors_, const Tensor& frequencies, double prefactor,
            at::ArrayRef<double> cutoff) {
  const Tensor vectors = vectors_.contiguous();
  Bessel t = bessel_of(vectors, frequencies, prefactor, cutoff);
  Tensor y = at::empty({vectors.size(0), t.num}, vectors.options());
  Tensor lengths = at::empty({vectors.size(0)}, vectors.options().dtype(at::kDouble));
  t.y = y.data_ptr(), t.lengths = lengths.data_ptr<double>();
  const auto kernel = step_kernels().bessel[vectors.scalar_type() == at::kDouble];
  over_rows(vectors.size(0), bessel_flops(t), [&](int64_t a, int64_t b) { kernel(t, a, b); });
  return {y, lengths};
}

Tensor bessel_bwd(const Tensor& g_, const std::optional<Tensor>& glengths_, const Tensor& vectors_,
                  const Tensor& frequencies, double prefactor, at::ArrayRef<double> cutoff) {
  const Tensor vectors = vectors_.contiguous(), g = g_.contiguous();
  const Tensor glengths = glengths_ ? glengths_->contiguous() : Tensor();
  Bessel t = bessel_of(vectors, frequencies, prefactor, cutoff);
  check_matrix("bessel_bwd", "the gradient", g, t.num);
  TORCH_CHECK(g.size(0) == vectors.size(0) && g.scalar_type() == vectors.scalar_type(),
              "tpcalc::bessel_bwd: gradient ", g.sizes(), " ", g.scalar_type(), " of vectors ",
              vectors.sizes(), " ", vectors.scalar_type());
  if (glengths.defined()) {
    TORCH_CHECK(glengths.dim() == 1 && glengths.size(0) == vectors.size(0) &&
                    glengths.scalar_type() == at::kDouble && glengths.is_cpu(),
                "tpcalc::bessel_bwd: gradient of lengths ", glengths.sizes(), " ",
                glengths.scalar_type(), " of vectors ", vectors.sizes());
    t.glengths = glengths.data_ptr<double>();
  }
  Tensor gv = at::empty_like(vectors);
  t.g = g.data_ptr(), t.gv = gv.data_ptr();
  const auto kernel = step_kernels().bessel_backward[vectors.scalar_type() == at::kDouble];
  over_rows(vectors.size(0), bessel_flops(t), [&](int64_t a, int64_t b) { kernel(t, a, b); });
  return gv;
}

Pair bessel_meta(const Tensor& vectors, const Tensor& frequencies, double,
                 at::ArrayRef<double> cutoff) {
  const int64_t num = cutoff[0] == Bessel::length ? 1 : frequencies.size(0);
  return {at::empty({vectors.size(0), num}, vectors.options()),
          at::empty({vectors.size(0)}, vectors.options().dtype(at::kDouble))};
}
Tensor bessel_bwd_meta(const Tensor&, const std::optional<Tensor>&, const Tensor& vectors,
                       const Tensor&, double, at::ArrayRef<double>) {
  return at::empty_like(vectors);
}

struct BesselFunction : Function<BesselFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& vectors,
                               const Tensor& frequencies, double prefactor,
                               std::vector<double> cutoff) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({vectors, frequencies});
    ctx->set_materialize_grads(false);
    ctx->saved_data["prefactor"] = prefactor;
    ctx->saved_data["cutoff"] = cutoff;
    static const auto op = typed<decltype(bessel)>("tpcalc::bessel");
    const auto [y, lengths] = op.call(vectors, frequencies, prefactor, cutoff);
    return {y, lengths};
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const double prefactor = ctx->saved_data["prefactor"].toDouble();
    const auto cutoff = ctx->saved_data["cutoff"].toDoubleVector();
    variable_list grads(4);
    if (!g[0].defined() && !g[1].defined()) return grads;
    if (at::GradMode::is_enabled()) {
      const auto outputs = bessel_by_ops(s[0], s[1], prefactor, cutoff);
      variable_list wanted, given;
      for (size_t i = 0; i < 2; i++)
        if (g[i].defined()) wanted.push_back(outputs[i]), given.push_back(g[i]);
      grads[0] = torch::autograd::grad(wanted, {s[0]}, given, true, true, true)[0];
      return grads;
    }
    static const auto op = typed<decltype(bessel_bwd)>("tpcalc::bessel_bwd");
    const auto of_lengths = g[1].defined() ? std::optional<Tensor>(g[1]) : std::nullopt;
    if (g[0].defined()) {
      grads[0] = op.call(g[0], of_lengths, s[0], s[1], prefactor, cutoff);
    } else {
      const Tensor none = at::empty({s[0].size(0), 0}, s[0].options());
      grads[0] = op.call(none, of_lengths, s[0], s[1].narrow(0, 0, 0), prefactor, {0.0, 0.0, 0.0});
    }
    return grads;
  }
};

Pair bessel_autograd(const Tensor& vectors, const Tensor& frequencies, double prefactor,
                     at::ArrayRef<double> cutoff) {
  if (frequencies.requires_grad() && at::GradMode::is_enabled()) {
    const auto made = bessel_by_ops(vectors, frequencies, prefactor, cutoff);
    return {made[0], made[1]};
  }
  const auto made = BesselFunction::apply(vectors, frequencies, prefactor, cutoff.vec());
  return {made[0], made[1]};
}

}  // namespace
}  // namespace tpcalc
