// tpcalc::poly: symmetric contraction as a polynomial, with first and second derivatives.
#pragma once
#include <numeric>
#include <optional>
#include <tuple>

#include "conv_autograd.h"
#include "poly_inputs.h"
#include "poly_trees.h"

namespace tpcalc {
namespace {

using Two = std::tuple<Tensor, Tensor>;

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
    check_poly(x, coef, species, monomials, terms);
    table = poly_table(monomials, terms, x.size(1), d_out);
    check_species();
    trees = trees_for(table);
    if (!trees->empty()) table.tree = trees->data(), table.tree_first = trees->data() + d_out;
    sort_nodes();
  }

  void check_species() const {
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
  check_gradient(g_, x);
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

// Gradients of g, x and coef for tangents of poly_bwd's results
Three poly_double_bwd(const Tensor& g_, const Tensor& x,
                      const Tensor& coef, POLY_TABLES, const MaybeTensor& tx,
                      const MaybeTensor& tcoef) {
  check_gradient(g_, x);
  const PolyInputs in(x, coef, species, monomials, terms, g_.size(1));
  const Tensor g = g_.contiguous(), dx = tangent(tx, in.x), dcoef = tangent(tcoef, in.coef);
  Tensor rg = at::empty_like(g), rx = at::empty_like(in.x), rcoef = at::zeros_like(in.coef);
  Poly p = in.poly();
  p.g = g.data_ptr(), p.tx = dx.data_ptr(), p.tcoef = dcoef.data_ptr();
  p.out = rg.data_ptr(), p.gx = rx.data_ptr(), p.gcoef = rcoef.data_ptr();
  in.run(p, 2);
  return {rg, rx, rcoef};
}

inline Tensor call_poly(const Tensor& x, const Tensor& coef, POLY_TABLES, int64_t d_out) {
  static const auto op = typed<decltype(poly)>("tpcalc::poly");
  return op.call(x, coef, species, monomials, terms, d_out);
}
inline Two call_poly_bwd(const Tensor& g, const Tensor& x, const Tensor& coef, POLY_TABLES,
                         bool need_coef) {
  static const auto op = typed<decltype(poly_bwd)>("tpcalc::poly_bwd");
  return op.call(g, x, coef, species, monomials, terms, need_coef);
}

struct PolyBackward : Function<PolyBackward> {
  static variable_list forward(AutogradContext* ctx, const Tensor& g, const Tensor& x,
                               const Tensor& coef, POLY_TABLES, bool need_coef) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({g, x, coef, species, monomials, terms});
    ctx->set_materialize_grads(false);
    const auto [gx, gcoef] = call_poly_bwd(g, x, coef, species, monomials, terms, need_coef);
    return {gx, gcoef};
  }
  static variable_list backward(AutogradContext* ctx, variable_list t) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "tpcalc::poly has first and second derivatives only; for third ones use the "
                "algorithm 'polynomial' in pure PyTorch");
    const auto s = ctx->get_saved_variables();
    variable_list grads(7);
    if (t[0].defined() || t[1].defined()) {
      static const auto op = typed<decltype(poly_double_bwd)>("tpcalc::poly_double_bwd");
      const auto given = [](const Tensor& d) { return d.defined() ? MaybeTensor(d) : std::nullopt; };
      std::tie(grads[0], grads[1], grads[2]) =
          op.call(s[0], s[1], s[2], s[3], s[4], s[5], given(t[0]), given(t[1]));
    }
    return grads;
  }
};

Two poly_bwd_autograd(const Tensor& g, const Tensor& x, const Tensor& coef, POLY_TABLES,
                      bool need_coef) {
  if (!tracked(g, x, coef)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return call_poly_bwd(g, x, coef, species, monomials, terms, need_coef);
  }
  const auto r = PolyBackward::apply(g, x, coef, species, monomials, terms, need_coef);
  return {r[0], r[1]};
}

struct PolyForward : Function<PolyForward> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& coef, POLY_TABLES,
                        int64_t d_out) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, coef, species, monomials, terms});
    return call_poly(x, coef, species, monomials, terms, d_out);
  }
  static variable_list backward(AutogradContext* ctx, variable_list g) {
    const auto s = ctx->get_saved_variables();
    const bool need_coef = ctx->needs_input_grad(1);
    const auto [gx, gcoef] = call_poly_bwd(g[0], s[0], s[1], s[2], s[3], s[4], need_coef);
    variable_list grads(6);
    grads[0] = gx;
    if (need_coef) grads[1] = gcoef;
    return grads;
  }
};

Tensor poly_autograd(const Tensor& x, const Tensor& coef, POLY_TABLES, int64_t d_out) {
  if (!tracked(x, coef)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return call_poly(x, coef, species, monomials, terms, d_out);
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

Three poly_double_bwd_meta(const Tensor& g, const Tensor& x, const Tensor& coef, const Tensor&,
                           const Tensor&, const Tensor&, const MaybeTensor&, const MaybeTensor&) {
  return {at::empty_like(g), at::empty_like(x), at::empty_like(coef)};
}

}  // namespace
}  // namespace tpcalc
