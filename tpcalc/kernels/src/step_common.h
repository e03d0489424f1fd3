// What the bindings of the ops around the convolution share.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "conv_plan.h"
#include "step_abi.h"
#include "typed.h"

namespace tpcalc {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The kernels of the instruction set that the convolution uses
inline const StepKernels& step_kernels() {
#if defined(__x86_64__)
  const int32_t bytes = widest_kernels().vector_bytes;
  if (bytes == 64) return step_kernels_avx512();
  if (bytes == 32) return step_kernels_avx2();
#endif
  return step_kernels_baseline();
}

inline void check_matrix(const char* op, const char* what, const Tensor& x, int64_t columns) {
  TORCH_CHECK(x.dim() == 2 && x.size(1) == columns && x.is_cpu() &&
                  (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble),
              "tpcalc::", op, ": ", what, " must be a float32 or float64 CPU matrix of ", columns,
              " columns, got ", x.sizes(), " ", x.scalar_type(), " on ", x.device());
}

// f(first, last) on pieces of 0 .. rows, one a thread where a row costs `flops`
template <class F> void over_rows(int64_t rows, int64_t flops, const F& f) {
  const int64_t grain = std::max<int64_t>(16, 50'000 / std::max<int64_t>(flops, 1));  // > 1 us
  at::parallel_for(0, rows, grain, [&](int64_t a, int64_t b) {
    if (a < b) f(a, b);
  });
}

// Gradients of an op for a second differentiation: torch's own, of the same function by torch's
// ops, f(inputs). It gets aliases: one input may have been made from another one, and what flows
// through that must not be counted here.
template <class F>
variable_list differentiable_gradients(const variable_list& inputs, const Tensor& g, const F& f) {
  variable_list aliases, wanted;
  for (const Tensor& x : inputs) {
    aliases.push_back(x.requires_grad() ? x.view_as(x) : x);
    if (x.requires_grad()) wanted.push_back(aliases.back());
  }
  const variable_list made = torch::autograd::grad({f(aliases)}, wanted, {g}, true, true, true);
  variable_list all;
  size_t next = 0;
  for (const Tensor& x : inputs) all.push_back(x.requires_grad() ? made[next++] : Tensor());
  return all;
}

}  // namespace
}  // namespace tpcalc
