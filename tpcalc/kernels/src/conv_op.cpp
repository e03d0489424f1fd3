#include "conv_op.h"

#include "conv_autograd.h"
#include "conv_network.h"
#include "peak_op.h"
#include "poly_op.h"
#include "registry.h"

namespace tpcalc {
namespace {

Tensor conv_meta(const Tensor& h, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                 const Tensor&, const Tensor&, const Tensor&, int64_t num_receivers,
                 int64_t out_dim) {
  return at::empty({num_receivers, out_dim}, h.options());
}

Three conv_bwd_meta(const Tensor&, const Tensor& h, const Tensor& y, const Tensor& w,
                    const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                    Need need) {
  const auto like = [](const Tensor& t, bool needed) {
    return needed ? at::empty_like(t) : at::empty({0}, t.options());
  };
  return {like(h, need[0]), like(y, need[1]), like(w, need[2])};
}

Tensor conv_radial_meta(const Tensor& h, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, double, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, const Tensor&, int64_t num_receivers, int64_t out_dim) {
  return at::empty({num_receivers, out_dim}, h.options());
}

Three conv_radial_bwd_meta(const Tensor& g, const Tensor& h, const Tensor& y, const Tensor& r,
                           const Tensor&, const Tensor&, double, const Tensor& senders,
                           const Tensor& receivers, TABLES, Need need) {
  return conv_bwd_meta(g, h, y, r, senders, receivers, paths, couplings, coef, need);
}

Tensor radial_table_meta(const Tensor& r, const Tensor&, const Tensor& table, double, int64_t) {
  return at::empty({r.size(0), table.size(2)}, r.options());
}

}  // namespace
}  // namespace tpcalc

extern "C" void tpcalc_register_ops() {
  static tpcalc::Registry ops;
  const std::string tables =
      "Tensor senders, Tensor receivers, Tensor paths, Tensor couplings, Tensor coef, ";
  const std::string splines = "Tensor r, Tensor kind, Tensor table, float step, ";
  ops.add("conv",
          "(Tensor h, Tensor y, Tensor w, " + tables + "int num_receivers, int out_dim) -> Tensor",
          tpcalc::conv, tpcalc::conv_meta, tpcalc::conv_autograd);
  ops.add("conv_bwd",
          "(Tensor g, Tensor h, Tensor y, Tensor w, " + tables +
              "bool[3] need) -> (Tensor, Tensor, Tensor)",
          tpcalc::conv_bwd, tpcalc::conv_bwd_meta, tpcalc::conv_bwd_autograd);
  ops.add("conv_radial",
          "(Tensor h, Tensor y, " + splines + tables +
              "int num_receivers, int out_dim) -> Tensor",
          tpcalc::conv_radial, tpcalc::conv_radial_meta, tpcalc::conv_radial_autograd);
  ops.add("radial_table", "(" + splines + "int order) -> Tensor", tpcalc::radial_table,
          tpcalc::radial_table_meta, tpcalc::radial_table_autograd);
  ops.add("conv_radial_bwd",
          "(Tensor g, Tensor h, Tensor y, " + splines + tables +
              "bool[3] need) -> (Tensor, Tensor, Tensor)",
          tpcalc::conv_radial_bwd, tpcalc::conv_radial_bwd_meta);
  const std::string network =
      "(Tensor h, Tensor y, Tensor feats, Tensor? envelope, Tensor[] layers, float norm, "
      "Tensor factors, int channels, " + tables + "int block";
  ops.add("conv_network", network + ", int num_receivers, int out_dim) -> Tensor",
          tpcalc::conv_network, tpcalc::conv_network_meta, tpcalc::conv_network_autograd);
  ops.add("conv_network_bwd",
          "(Tensor g, " + network.substr(1) + ") -> (Tensor, Tensor, Tensor, Tensor)",
          tpcalc::conv_network_bwd, tpcalc::conv_network_bwd_meta);
  const std::string poly = "Tensor x, Tensor coef, Tensor species, Tensor monomials, Tensor terms";
  ops.add("poly", "(" + poly + ", int d_out) -> Tensor", tpcalc::poly, tpcalc::poly_meta,
          tpcalc::poly_autograd);
  ops.add("poly_bwd", "(Tensor g, " + poly + ", bool need_coef) -> (Tensor, Tensor)", tpcalc::poly_bwd,
          tpcalc::poly_bwd_meta, tpcalc::poly_bwd_autograd);
  ops.add("poly_double_bwd",
          "(Tensor g, " + poly + ", Tensor? tx, Tensor? tcoef) -> (Tensor, Tensor, Tensor)",
          tpcalc::poly_double_bwd, tpcalc::poly_double_bwd_meta);
  if (!c10::Dispatcher::singleton().findSchema({"tpcalc::fma_rounds", ""}))
    ops.def.def("fma_rounds(int rounds) -> int", tpcalc::fma_rounds);
  tpcalc::add_step_ops(ops);
}

namespace {
const bool registered = (tpcalc_register_ops(), true);
}
