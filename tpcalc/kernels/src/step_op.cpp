// The ops around the convolution: linear layers, networks, gate, what edges are.
#include "bessel_op.h"
#include "edge_sums_op.h"
#include "gate_op.h"
#include "harmonics_op.h"
#include "linear_op.h"
#include "mlp_op.h"
#include "products_op.h"
#include "registry.h"

void tpcalc::add_step_ops(Registry& ops) {
  using namespace tpcalc;
  ops.add("linear",
          "(Tensor x, Tensor w, Tensor species, int[] blocks, int kinds, int out_dim, float scale, "
          "bool transposed, Tensor? added) -> Tensor",
          linear, linear_meta, linear_autograd);
  ops.add("linear_weight",
          "(Tensor x, Tensor g, Tensor species, int[] blocks, int kinds, float scale) -> Tensor",
          linear_weight, linear_weight_meta, linear_weight_autograd);
  ops.add("mlp", "(Tensor x, Tensor[] weights, float norm, Tensor? envelope=None) -> Tensor", mlp,
          mlp_meta, mlp_autograd);
  ops.add("mlp_bwd",
          "(Tensor g, Tensor x, Tensor[] weights, float norm, Tensor? envelope) "
          "-> (Tensor, Tensor)",
          mlp_bwd, mlp_bwd_meta);
  const std::string gate_numbers = "int[] sizes, float silu, float tanh) -> Tensor";
  ops.add("gate", "(Tensor x, " + gate_numbers, gate, gate_meta, gate_autograd);
  ops.add("gate_bwd", "(Tensor g, Tensor x, " + gate_numbers, gate_bwd, gate_bwd_meta);
  ops.add("harmonics", "(Tensor vectors, Tensor steps, int lmax) -> Tensor", harmonics,
          harmonics_meta, harmonics_autograd);
  ops.add("harmonics_bwd", "(Tensor g, Tensor vectors, Tensor steps, int lmax) -> Tensor",
          harmonics_bwd, harmonics_bwd_meta);
  const std::string bessel_numbers =
      "Tensor vectors, Tensor frequencies, float prefactor, float[] cutoff) -> ";
  ops.add("bessel", "(" + bessel_numbers + "(Tensor, Tensor)", bessel, bessel_meta,
          bessel_autograd);
  ops.add("bessel_bwd", "(Tensor g, Tensor? glengths, " + bessel_numbers + "Tensor", bessel_bwd,
          bessel_bwd_meta);
  ops.add("edges_within",
          "(Tensor positions, Tensor edge_index, Tensor offsets, Tensor shifts, float cutoff) "
          "-> (Tensor, Tensor, Tensor, float)",
          edges_within);
  ops.add("edge_sums",
          "(Tensor g, Tensor vectors, Tensor edge_index, int n, bool virials) -> (Tensor, Tensor)",
          edge_sums);
  ops.add("weight_products", "(Tensor x, Tensor factors, int channels) -> Tensor", weight_products,
          weight_products_meta, weight_products_autograd);
  ops.add("weight_products_bwd", "(Tensor g, Tensor x, Tensor factors, int channels) -> Tensor",
          weight_products_bwd, weight_products_bwd_meta, weight_products_bwd_autograd);
  ops.add("weight_products_double_bwd",
          "(Tensor g, Tensor x, Tensor dx, Tensor factors, int channels) -> (Tensor, Tensor)",
          weight_products_double_bwd, weight_products_double_bwd_meta);
}
