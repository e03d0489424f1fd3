// tpcalc::poly: symmetric contraction as a polynomial, with first and second derivatives.
#pragma once
#include <numeric>
#include <tuple>

#include "conv_autograd.h"
#include "poly_trees.h"

namespace tpcalc {
namespace {

using Two = std::tuple<Tensor, Tensor>;
#define POLY_TABLES const Tensor &species, const Tensor &monomials, const Tensor &terms

// The kernels of the instruction set that the convolution uses
inline const PolyKernels& poly_kernels() {
#if defined(__x86_64__)
  const int32_t bytes = widest_kernels().vector_bytes;
  if (bytes == 64) return poly_kernels_avx512();
  if (bytes == 32) return poly_kernels_avx2();
#endif
  return poly_kernels_baseline();
}

// Checked and contiguous arguments
struct PolyInputs {
  Tensor x, coef, species, monomials, terms;
  PolyTable table;
  Trees trees;
  std::vector<int64_t> order;

  PolyInputs(const Tensor& x_, const Tensor& coef_, const Tensor& species_,
             const Tensor& monomials_, const Tensor& terms_, int64_t d_out)
      : x(x_.contiguous()), coef(coef_.contiguous()), species(species_.contiguous()),
        monomials(monomials_.contiguous()), terms(terms_.contiguous()) {
    const auto type = x.scalar_type();
    TORCH_CHECK(x.is_cpu() && coef.is_cpu() && (type == at::kFloat || type == at::kDouble) &&
                    coef.scalar_type() == type,
                "tpcalc::poly: features and coefficients must be float32 or float64 on the CPU, "
                "got ", type, " and ", coef.scalar_type());
    TORCH_CHECK(x.dim() == 3 && coef.dim() == 3 && coef.size(2) == x.size(2),
                "tpcalc::poly: features [nodes, components, channels] and coefficients [species, "
                "terms, channels] are needed, got ", x.sizes(), " and ", coef.sizes());
    for (const Tensor& t : {monomials, terms})
      TORCH_CHECK(t.dim() == 2 && t.size(0) == 2 && t.scalar_type() == at::kInt && t.is_cpu(),
                  "tpcalc::poly: tables must be int32 [2, n], got ", t.sizes());
    TORCH_CHECK(terms.size(1) == coef.size(1), "tpcalc::poly: ", terms.size(1), " terms and ",
                coef.size(1), " rows of coefficients");
    const int32_t *m = monomials.data_ptr<int32_t>(), *t = terms.data_ptr<int32_t>();
    const auto num_m = static_cast<int32_t>(monomials.size(1));
    const auto num_t = static_cast<int32_t>(terms.size(1));
    table = {m, m + num_m, t, t + num_t, num_m, num_t, static_cast<int32_t>(x.size(1)),
             static_cast<int32_t>(d_out), nullptr, nullptr};
    check_table();
    check_species();
    trees = trees_for(table);
    if (!trees->empty()) table.tree = trees->data(), table.tree_first = trees->data() + d_out;
    sort_nodes();
  }

  void check_table() const {
    const PolyTable& t = table;
    for (int k = 0; k < t.num_monomials; k++)
      TORCH_CHECK(t.prefix[k] >= -1 && t.prefix[k] < k && t.last[k] >= 0 && t.last[k] < t.d_in,
                  "tpcalc::poly: monomial ", k, " is made from ", t.prefix[k], " and component ",
                  t.last[k], " of ", t.d_in);
    for (int k = 0; k < t.num_terms; k++)
      TORCH_CHECK(t.term_monomial[k] >= 0 && t.term_monomial[k] < t.num_monomials &&
                      t.term_out[k] < t.d_out && t.term_out[k] >= (k ? t.term_out[k - 1] : 0),
                  "tpcalc::poly: term ", k, " takes monomial ", t.term_monomial[k], " to output ",
                  t.term_out[k], "; outputs must rise and lie below ", t.d_out);
  }
  void check_species() const {
    const int64_t n = x.size(0);
    TORCH_CHECK(species.scalar_type() == at::kLong && species.is_cpu() &&
                    (species.numel() == 0 || species.numel() == n),
                "tpcalc::poly: species must be int64 with one entry a node, got ",
                species.sizes());
    TORCH_CHECK(coef.size(0) > 0, "tpcalc::poly: coefficients of no species");
    const int64_t* z = species.data_ptr<int64_t>();
    for (int64_t i = 0; i < species.numel(); i++)
      TORCH_CHECK_INDEX(z[i] >= 0 && z[i] < coef.size(0), "tpcalc::poly: species ", z[i],
                        " of node ", i, "; there are coefficients of ", coef.size(0));
  }
  // Nodes of one species follow one another, so that their coefficients stay in the cache
  void sort_nodes() {
    const int64_t* z = species.data_ptr<int64_t>();
    if (std::is_sorted(z, z + species.numel())) return;
    order.resize(species.numel());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return z[a] < z[b]; });
  }
  Poly poly() const {
    Poly p{};
    p.species = species.numel() ? species.data_ptr<int64_t>() : nullptr;
    p.order = order.empty() ? nullptr : order.data();
    p.nodes = x.size(0), p.kinds = coef.size(0), p.channels = x.size(2);
    p.x = x.data_ptr(), p.coef = coef.data_ptr();
    return p;
  }
  // Threads take nodes, or blocks of channels where they add to gradients of coefficients:
  // nothing is written by two of them
  void run(const Poly& p, int order_of_derivative) const {
    const PolyKernels& k = poly_kernels();
    const int64_t lanes = (table.tree ? 1 : 2) * k.vector_bytes / x.element_size();
    const int64_t blocks = (p.channels + lanes - 1) / lanes;
    const int64_t parts = std::min<int64_t>(at::get_num_threads(), p.gcoef ? blocks : p.nodes);
    const auto kernel = k.poly[x.scalar_type() == at::kDouble];
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t q = first; q < last; q++) {
        PolyPart part{0, p.channels, 0, p.nodes};
        if (p.gcoef) {
          part.channel = blocks * q / parts * lanes;
          part.channel_end = std::min(blocks * (q + 1) / parts * lanes, p.channels);
        } else {
          part.node = p.nodes * q / parts, part.node_end = p.nodes * (q + 1) / parts;
        }
        kernel(table, p, order_of_derivative, part);
      }
    });
  }
};

Tensor poly(const Tensor& x, const Tensor& coef, POLY_TABLES, int64_t d_out) {
  const PolyInputs in(x, coef, species, monomials, terms, d_out);
  Tensor out = at::empty({x.size(0), d_out, x.size(2)}, x.options());
  Poly p = in.poly();
  p.out = out.data_ptr();
  in.run(p, 0);
  return out;
}

// gcoef is without rows where it is not needed
Two poly_bwd(const Tensor& g_, const Tensor& x, const Tensor& coef, POLY_TABLES, bool need_coef) {
  TORCH_CHECK(g_.dim() == 3, "tpcalc::poly_bwd: gradient ", g_.sizes());
  const PolyInputs in(x, coef, species, monomials, terms, g_.size(1));
  const Tensor g = g_.contiguous();
  Tensor gx = at::empty_like(in.x);
  Tensor gcoef = need_coef ? at::zeros_like(in.coef) : at::empty({0}, coef.options());
  Poly p = in.poly();
  p.g = g.data_ptr(), p.gx = gx.data_ptr();
  p.gcoef = need_coef ? gcoef.data_ptr() : nullptr;
  in.run(p, 1);
  return {gx, gcoef};
}

inline std::array<Tensor, 3> poly_double_bwd(const Tensor& g_, const Tensor& x,
                                             const Tensor& coef, POLY_TABLES, const Tensor& tx,
                                             const Tensor& tcoef) {
  const PolyInputs in(x, coef, species, monomials, terms, g_.size(1));
  const Tensor g = g_.contiguous();
  const Tensor dx = tx.defined() ? tx.contiguous() : at::zeros_like(in.x);
  const Tensor dcoef = tcoef.defined() ? tcoef.contiguous() : at::zeros_like(in.coef);
  Tensor rg = at::empty_like(g), rx = at::empty_like(in.x), rcoef = at::zeros_like(in.coef);
  Poly p = in.poly();
  p.g = g.data_ptr(), p.tx = dx.data_ptr(), p.tcoef = dcoef.data_ptr();
  p.out = rg.data_ptr(), p.gx = rx.data_ptr(), p.gcoef = rcoef.data_ptr();
  in.run(p, 2);
  return {rg, rx, rcoef};
}

struct PolyBackward : Function<PolyBackward> {
  static variable_list forward(AutogradContext* ctx, const Tensor& g, const Tensor& x,
                               const Tensor& coef, POLY_TABLES, bool need_coef) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({g, x, coef, species, monomials, terms});
    ctx->set_materialize_grads(false);
    const auto [gx, gcoef] = poly_bwd(g, x, coef, species, monomials, terms, need_coef);
    return {gx, gcoef};
  }
  static variable_list backward(AutogradContext* ctx, variable_list t) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "tpcalc::poly has first and second derivatives only; for third ones use the "
                "algorithm 'polynomial' in pure PyTorch");
    const auto s = ctx->get_saved_variables();
    variable_list grads(7);
    if (t[0].defined() || t[1].defined()) {
      const auto r = poly_double_bwd(s[0], s[1], s[2], s[3], s[4], s[5], t[0], t[1]);
      std::copy(r.begin(), r.end(), grads.begin());
    }
    return grads;
  }
};

Two poly_bwd_autograd(const Tensor& g, const Tensor& x, const Tensor& coef, POLY_TABLES,
                      bool need_coef) {
  if (!tracked(g, x, coef)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return poly_bwd(g, x, coef, species, monomials, terms, need_coef);
  }
  const auto r = PolyBackward::apply(g, x, coef, species, monomials, terms, need_coef);
  return {r[0], r[1]};
}

struct PolyForward : Function<PolyForward> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& coef, POLY_TABLES,
                        int64_t d_out) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, coef, species, monomials, terms});
    return poly(x, coef, species, monomials, terms, d_out);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    static const auto op = typed<decltype(poly_bwd)>("tpcalc::poly_bwd");
    const auto s = ctx->get_saved_variables();
    const bool need_coef = ctx->needs_input_grad(1);
    const auto [gx, gcoef] = op.call(g[0], s[0], s[1], s[2], s[3], s[4], need_coef);
    variable_list grads(6);
    grads[0] = gx;
    if (need_coef) grads[1] = gcoef;
    return grads;
  }
};

Tensor poly_autograd(const Tensor& x, const Tensor& coef, POLY_TABLES, int64_t d_out) {
  if (!tracked(x, coef)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return poly(x, coef, species, monomials, terms, d_out);
  }
  return PolyForward::apply(x, coef, species, monomials, terms, d_out);
}

Tensor poly_meta(const Tensor& x, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                 int64_t d_out) {
  return at::empty({x.size(0), d_out, x.size(2)}, x.options());
}
Two poly_bwd_meta(const Tensor&, const Tensor& x, const Tensor& coef, const Tensor&,
                  const Tensor&, const Tensor&, bool need_coef) {
  return {at::empty_like(x), need_coef ? at::empty_like(coef) : at::empty({0}, coef.options())};
}

}  // namespace
}  // namespace tpcalc
