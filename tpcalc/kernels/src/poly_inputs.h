// The arguments of the op on polynomials, checked: on any device.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>

#include <optional>

#include "poly_abi.h"

namespace tpcalc {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
#define POLY_TABLES const Tensor &species, const Tensor &monomials, const Tensor &terms

// Throws unless monomials and terms, on the CPU, are what `PolyTable` says
inline PolyTable poly_table(const Tensor& monomials, const Tensor& terms, int64_t d_in,
                            int64_t d_out) {
  for (const Tensor* t : {&monomials, &terms})
    TORCH_CHECK(t->dim() == 2 && t->size(0) == 2 && t->scalar_type() == at::kInt && t->is_cpu() &&
                    t->is_contiguous(),
                "tpcalc::poly: tables must be contiguous int32 [2, n] on the CPU, got ", t->sizes());
  const int32_t *m = monomials.data_ptr<int32_t>(), *k = terms.data_ptr<int32_t>();
  const auto num_m = static_cast<int32_t>(monomials.size(1));
  const auto num_t = static_cast<int32_t>(terms.size(1));
  const PolyTable t = {m, m + num_m, k, k + num_t, num_m, num_t, static_cast<int32_t>(d_in),
                       static_cast<int32_t>(d_out), nullptr, nullptr};
  for (int n = 0; n < num_m; n++)
    TORCH_CHECK(t.prefix[n] >= -1 && t.prefix[n] < n && t.last[n] >= 0 && t.last[n] < t.d_in,
                "tpcalc::poly: monomial ", n, " is made from ", t.prefix[n], " and component ",
                t.last[n], " of ", t.d_in);
  for (int n = 0; n < num_t; n++)
    TORCH_CHECK(t.term_monomial[n] >= 0 && t.term_monomial[n] < num_m && t.term_out[n] < t.d_out &&
                    t.term_out[n] >= (n ? t.term_out[n - 1] : 0),
                "tpcalc::poly: term ", n, " takes monomial ", t.term_monomial[n], " to output ",
                t.term_out[n], "; outputs must rise and lie below ", t.d_out);
  return t;
}

inline void check_poly(const Tensor& x, const Tensor& coef, POLY_TABLES) {
  const auto type = x.scalar_type();
  TORCH_CHECK((type == at::kFloat || type == at::kDouble) && coef.scalar_type() == type,
              "tpcalc::poly: features and coefficients must be float32 or float64, both, got ",
              type, " and ", coef.scalar_type());
  TORCH_CHECK(x.dim() == 3 && coef.dim() == 3 && coef.size(2) == x.size(2),
              "tpcalc::poly: features [nodes, components, channels] and coefficients [species, "
              "terms, channels] are needed, got ", x.sizes(), " and ", coef.sizes());
  TORCH_CHECK(species.scalar_type() == at::kLong &&
                  (species.numel() == 0 || species.numel() == x.size(0)),
              "tpcalc::poly: species must be int64 with one entry a node, got ", species.sizes());
  TORCH_CHECK(terms.dim() == 2 && terms.size(1) == coef.size(1), "tpcalc::poly: ", terms.sizes(),
              " terms and ", coef.size(1), " rows of coefficients");
  TORCH_CHECK(coef.size(0) > 0, "tpcalc::poly: coefficients of no species");
  for (const Tensor* t : {&coef, &species})
    TORCH_CHECK(t->device() == x.device(), "tpcalc::poly: features are on ", x.device(),
                " and another argument is on ", t->device(), "; move all of them to one device");
}

inline void check_gradient(const Tensor& g, const Tensor& x) {
  TORCH_CHECK(g.dim() == 3 && g.size(0) == x.size(0) && g.size(2) == x.size(2) &&
                  g.scalar_type() == x.scalar_type() && g.device() == x.device(),
              "tpcalc::poly_bwd: gradient ", g.sizes(), " ", g.scalar_type(), " on ", g.device(),
              " does not fit features ", x.sizes(), " ", x.scalar_type(), " on ", x.device());
}

// The tangent of x or coef; zero where none is given
inline Tensor tangent(const MaybeTensor& t, const Tensor& of) {
  if (!t) return at::zeros_like(of);
  TORCH_CHECK(t->sizes() == of.sizes() && t->scalar_type() == of.scalar_type() &&
                  t->device() == of.device(),
              "tpcalc::poly_double_bwd: tangent ", t->sizes(), " ", t->scalar_type(), " on ",
              t->device(), " of ", of.sizes(), " ", of.scalar_type(), " on ", of.device());
  return t->contiguous();
}

}  // namespace
}  // namespace tpcalc
