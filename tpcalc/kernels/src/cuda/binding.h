// What the bindings of the ops on a GPU share.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/all.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

namespace tpcalc::cuda {
namespace {

using at::Tensor;

#if defined(TPCALC_EMULATE)
constexpr auto kKey = c10::DispatchKey::CPU;
void* stream_of(const Tensor&) { return nullptr; }
#else
constexpr auto kKey = c10::DispatchKey::CUDA;
void* stream_of(const Tensor& t) {
  const c10::impl::VirtualGuardImpl device(t.device().type());
  return device.getStream(t.device()).native_handle();
}
#endif

void require(const char* error) {
  TORCH_CHECK(!error, "tpcalc on CUDA: ", error);
}

// Checked on the device: a look from here would wait for it
void check_range(const Tensor& index, int64_t n, const char* what) {
  if (index.numel() == 0) return;
  at::_assert_async(at::all(at::logical_and(at::ge(index, 0), at::lt(index, n))), what);
}

// Positions 0 .. sorted by a number of each, and where each number from 0 to n begins
struct SortedBy {
  Tensor order, begin;
  SortedBy(const Tensor& numbers, int64_t n) {
    Tensor sorted;
    std::tie(sorted, order) = at::sort(numbers, std::optional<bool>(true), 0);
    begin = at::searchsorted(sorted, at::arange(n + 1, numbers.options()));
  }
};

}  // namespace
}  // namespace tpcalc::cuda
