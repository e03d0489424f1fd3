// The arguments of the ops on edges, checked: on any device.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>

#include "conv_abi.h"

namespace tpcalc {
namespace {

using at::Tensor;
using Need = std::array<bool, 3>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
#define TABLES const Tensor &paths, const Tensor &couplings, const Tensor &coef

// Weights given edge by edge (w), or as splines of a length (r, kind, table, step)
struct Weights {
  Tensor w, r, kind, table;
  double step = 1;

  static Weights given(const Tensor& w) {
    Weights x;
    x.w = w.contiguous();
    return x;
  }
  static Weights splines(const Tensor& r, const Tensor& kind, const Tensor& table, double step) {
    const int64_t n = r.numel();
    TORCH_CHECK(r.dim() == 1, "tpcalc: lengths must be a vector, got ", r.sizes());
    TORCH_CHECK(r.scalar_type() == at::kFloat || r.scalar_type() == at::kDouble,
                "tpcalc: lengths must be float32 or float64, got ", r.scalar_type());
    TORCH_CHECK(table.dim() == 3 && table.size(0) > 0 && table.size(1) > 3 &&
                    table.scalar_type() == r.scalar_type() && table.device() == r.device(),
                "tpcalc: a spline table must be [kinds, intervals + 3, columns] in the dtype of "
                "the lengths and on their device, got ", table.sizes(), " ", table.scalar_type(), " on ",
                table.device());
    TORCH_CHECK(!table.requires_grad(), "tpcalc: spline tables are constants; train the network "
                "they were made from");
    TORCH_CHECK(step > 0, "tpcalc: spline interval ", step, "; it must be positive");
    TORCH_CHECK(kind.scalar_type() == at::kLong && kind.device() == r.device() &&
                    (kind.numel() == 0 || kind.numel() == n),
                "tpcalc: kinds must be an int64 vector with one entry an edge, or empty, got ",
                kind.sizes());
    Weights x{Tensor(), r.contiguous(), kind.contiguous(), table.contiguous(), step};
    if (!x.kind.is_cpu()) return x;  // a look at them would wait for the device
    const int64_t* k = x.kind.data_ptr<int64_t>();
    for (int64_t e = 0; e < x.kind.numel(); e++)
      TORCH_CHECK_INDEX(k[e] >= 0 && k[e] < table.size(0), "tpcalc: kind ", k[e], " of edge ", e,
                        "; the table has ", table.size(0));
    return x;
  }
  bool is_spline() const { return r.defined(); }
  int64_t columns() const { return is_spline() ? table.size(2) : w.size(1); }
  const Tensor& by_edge() const { return is_spline() ? r : w; }
  const void* w_data() const { return is_spline() ? nullptr : w.data_ptr(); }
  Radial radial() const {
    if (!is_spline()) return Radial{};
    return {r.data_ptr(), table.data_ptr(), kind.numel() ? kind.data_ptr<int64_t>() : nullptr,
            table.size(1) - 3, 1 / step};
  }
};

inline void check_inputs(const Tensor& h, const Tensor& y, const Tensor& w, const Tensor& senders,
                         const Tensor& receivers, int64_t w_dims = 2) {
  const auto type = h.scalar_type();
  TORCH_CHECK(h.dim() == 2 && y.dim() == 2 && w.dim() == w_dims,
              "tpcalc::conv: node features, edge basis and edge weights must be matrices, got ",
              h.sizes(), ", ", y.sizes(), ", ", w.sizes());
  TORCH_CHECK(type == at::kFloat || type == at::kDouble,
              "tpcalc::conv: features must be float32 or float64, got ", type);
  TORCH_CHECK(y.scalar_type() == type && w.scalar_type() == type,
              "tpcalc::conv: node features, edge basis and edge weights must have one dtype, got ",
              type, ", ", y.scalar_type(), ", ", w.scalar_type());
  TORCH_CHECK(senders.dim() == 1 && receivers.dim() == 1 && senders.scalar_type() == at::kLong &&
                  receivers.scalar_type() == at::kLong,
              "tpcalc::conv: senders and receivers must be int64 vectors, got ",
              senders.scalar_type(), senders.sizes(), ", ", receivers.scalar_type(),
              receivers.sizes());
  const int64_t n = senders.size(0);
  TORCH_CHECK(receivers.size(0) == n && y.size(0) == n && w.size(0) == n, "tpcalc::conv: ", n,
              " senders, ", receivers.size(0), " receivers, ", y.size(0), " rows of edge basis, ",
              w.size(0), " rows of edge weights; one of each an edge is needed");
  for (const Tensor* t : {&y, &w, &senders, &receivers})
    TORCH_CHECK(t->device() == h.device(), "tpcalc::conv: node features are on ", h.device(),
                " and another argument is on ", t->device(), "; move all of them to one device");
}

}  // namespace
}  // namespace tpcalc
