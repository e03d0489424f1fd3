// From the table tensors of the op to the `Plan` of the kernels.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "conv_abi.h"

namespace tpcalc {

struct Widths {
  int64_t h, y, w, out;
  bool operator==(const Widths& o) const {
    return h == o.h && y == o.y && w == o.w && out == o.out;
  }
};

// The widest instruction set of this machine
const Kernels& widest_kernels();

// Index of the smallest of n shapes that holds the non-zeros of a row
int smallest_shape(const Shape* shapes, int n, const Row& row, const Coupling* couplings);

// Owns what a Plan points to: rows are those of the table, cut to compiled shapes
class ConvPlan {
 public:
  // Throws c10::Error for a table that does not fit the widths of h, y, w and out.
  ConvPlan(const at::Tensor& paths, const at::Tensor& couplings, const at::Tensor& coef,
           at::ScalarType dtype, const Widths& widths);
  // Made from these very numbers?
  bool matches(const at::Tensor& paths, const at::Tensor& couplings, const at::Tensor& coef,
               at::ScalarType dtype, const Widths& widths) const;
  Plan plan;
  const Kernels* kernels;
  bool zero_out, zero_w;  // these results must be zeroed before the kernel runs

 private:
  void check_rows() const;
  void number_entries();
  void choose_kernels();
  void sort_by_column();
  Widths widths_;
  at::ScalarType dtype_;
  std::vector<Row> given_rows_, rows_;
  std::vector<Coupling> given_couplings_, couplings_, by_column_;
  std::vector<int32_t> m_offset_, kernel_;
  std::vector<uint8_t> writes_out_, writes_w_;
  at::Tensor given_coef_, coef_, coef_by_column_;
};

// The plan of a table, from a small cache of this thread: making one takes tens of microseconds
std::shared_ptr<const ConvPlan> plan_for(const at::Tensor& paths, const at::Tensor& couplings,
                                         const at::Tensor& coef, at::ScalarType dtype,
                                         const Widths& widths);

}  // namespace tpcalc
