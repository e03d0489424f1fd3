// `tpcalc::poly` on a GPU; see conv_cuda.cpp.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "../poly_inputs.h"
#include "binding.h"
#include "poly_abi.h"

namespace tpcalc::cuda {
namespace {

// The tables of a polynomial in device memory
struct TermTables {
  Tensor monomials, terms;         // what they were made from, on the CPU
  int64_t d_in, d_out;
  Tensor words, out, out_begin;

  TermTables(const Tensor& monomials_, const Tensor& terms_, int64_t d_in_, int64_t d_out_,
             c10::Device device)
      : monomials(monomials_.clone()), terms(terms_.clone()), d_in(d_in_), d_out(d_out_) {
    const PolyTable t = poly_table(monomials, terms, d_in, d_out);
    std::vector<std::vector<int32_t>> word(t.num_monomials);
    for (int n = 0; n < t.num_monomials; n++) {
      if (t.prefix[n] >= 0) word[n] = word[t.prefix[n]];
      word[n].push_back(t.last[n]);
      TORCH_CHECK(word[n].size() <= kMaxPower, "tpcalc::poly on CUDA: a monomial of power ",
                  word[n].size(), "; at most ", kMaxPower, " is compiled");
    }
    std::vector<int32_t> all, begin(d_out + 1, 0);
    for (int n = 0; n < t.num_terms; n++) {
      auto padded = word[t.term_monomial[n]];
      padded.resize(kMaxPower, -1);
      all.insert(all.end(), padded.begin(), padded.end());
      begin[t.term_out[n] + 1] = n + 1;
    }
    for (int64_t o = 0; o < d_out; o++) begin[o + 1] = std::max(begin[o + 1], begin[o]);
    words = at::tensor(all, at::kInt).to(device);
    out = terms[1].to(device);
    out_begin = at::tensor(begin, at::kInt).to(device);
  }
  bool matches(const Tensor& m, const Tensor& t, int64_t in, int64_t out_, c10::Device d) const {
    return words.device() == d && d_in == in && d_out == out_ && at::equal(monomials, m) &&
           at::equal(terms, t);
  }
  Terms get() const {
    return {words.data_ptr<int32_t>(), out.data_ptr<int32_t>(), out_begin.data_ptr<int32_t>(),
            static_cast<int32_t>(terms.size(1)), static_cast<int32_t>(d_in),
            static_cast<int32_t>(d_out)};
  }
};

// From a small cache of this thread; tables that are on the device are copied from it
std::shared_ptr<const TermTables> term_tables(const Tensor& monomials_, const Tensor& terms_,
                                              int64_t d_in, int64_t d_out, c10::Device device) {
  constexpr size_t kept = 64;
  thread_local std::vector<std::shared_ptr<const TermTables>> made;
  const Tensor monomials = monomials_.cpu().contiguous(), terms = terms_.cpu().contiguous();
  for (const auto& tables : made)
    if (tables->matches(monomials, terms, d_in, d_out, device)) return tables;
  const auto fresh = std::make_shared<const TermTables>(monomials, terms, d_in, d_out, device);
  if (made.size() == kept) made.erase(made.begin());
  made.push_back(fresh);
  return fresh;
}

// Checked and contiguous arguments, on their device
struct Call {
  c10::DeviceGuard guard;
  Tensor x, coef, species;
  std::shared_ptr<const TermTables> tables;
  SortedBy by_species;
  Polynomial p{};

  Call(const Tensor& x_, const Tensor& coef_, POLY_TABLES, int64_t d_out)
      : guard((check_poly(x_, coef_, species, monomials, terms), x_.device())),
        x(x_.contiguous()), coef(coef_.contiguous()),
        species(species.numel() ? species.contiguous()
                                : at::zeros({x.size(0)}, x.options().dtype(at::kLong))),
        tables(term_tables(monomials, terms, x.size(1), d_out, x.device())),
        by_species(this->species, coef.size(0)) {
    check_range(this->species, coef.size(0), "tpcalc::poly: a species without coefficients");
    p.order = by_species.order.data_ptr<int64_t>();
    p.kind_begin = by_species.begin.data_ptr<int64_t>();
    p.species = this->species.data_ptr<int64_t>();
    p.nodes = x.size(0), p.kinds = coef.size(0), p.channels = x.size(2);
    p.x = x.data_ptr(), p.coef = coef.data_ptr();
  }
  void run() const {
    require(polynomial(x.scalar_type() == at::kDouble, tables->get(), p, stream_of(x)));
  }
};

Tensor poly(const Tensor& x, const Tensor& coef, POLY_TABLES, int64_t d_out) {
  Call call(x, coef, species, monomials, terms, d_out);
  Tensor out = at::empty({x.size(0), d_out, x.size(2)}, x.options());
  call.p.out = out.data_ptr();
  call.run();
  return out;
}

std::tuple<Tensor, Tensor> poly_bwd(const Tensor& g_, const Tensor& x, const Tensor& coef,
                                    POLY_TABLES, bool need_coef) {
  check_gradient(g_, x);
  Call call(x, coef, species, monomials, terms, g_.size(1));
  const Tensor g = g_.contiguous();
  Tensor gx = at::empty_like(call.x);
  Tensor gcoef = need_coef ? at::empty_like(call.coef) : at::empty({0}, coef.options());
  call.p.g = g.data_ptr(), call.p.gx = gx.data_ptr();
  call.p.gcoef = need_coef ? gcoef.data_ptr() : nullptr;
  call.run();
  return {gx, gcoef};
}

std::tuple<Tensor, Tensor, Tensor> poly_double_bwd(const Tensor& g_, const Tensor& x,
                                                   const Tensor& coef, POLY_TABLES,
                                                   const MaybeTensor& tx,
                                                   const MaybeTensor& tcoef) {
  check_gradient(g_, x);
  Call call(x, coef, species, monomials, terms, g_.size(1));
  const Tensor g = g_.contiguous(), dx = tangent(tx, call.x), dcoef = tangent(tcoef, call.coef);
  Tensor rg = at::empty_like(g), rx = at::empty_like(call.x), rcoef = at::empty_like(call.coef);
  Polynomial& p = call.p;
  p.g = g.data_ptr(), p.tx = dx.data_ptr(), p.tcoef = dcoef.data_ptr();
  p.out = rg.data_ptr(), p.gx = rx.data_ptr(), p.gcoef = rcoef.data_ptr();
  call.run();
  return {rg, rx, rcoef};
}

struct Registry {
  torch::Library ops{torch::Library::IMPL, "tpcalc", kKey, __FILE__, __LINE__};
  Registry() {
    ops.impl("poly", poly);
    ops.impl("poly_bwd", poly_bwd);
    ops.impl("poly_double_bwd", poly_double_bwd);
  }
};
const Registry* const registry = new Registry;  // as long as the process

}  // namespace
}  // namespace tpcalc::cuda
