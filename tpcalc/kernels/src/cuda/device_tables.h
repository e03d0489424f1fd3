// The coupling tables in the memory of a device.
#pragma once
#include <memory>
#include <vector>

#include "../conv_plan.h"
#include "cuda_abi.h"

namespace tpcalc::cuda {

struct DeviceTables {
  DeviceTables(std::shared_ptr<const ConvPlan> plan, at::ScalarType dtype, c10::Device device);
  std::shared_ptr<const ConvPlan> plan;
  c10::Device device;
  Table table;

 private:
  template <class V> const V* upload(const V* values, size_t n);
  std::vector<at::Tensor> kept_;
};

// The tables of a plan on a device, from a small cache of this thread. Tables of the op that are
// on the device are copied from it, which waits for the device: keep them on the CPU.
std::shared_ptr<const DeviceTables> device_tables(const at::Tensor& paths,
                                                  const at::Tensor& couplings,
                                                  const at::Tensor& coef, at::ScalarType dtype,
                                                  c10::Device device, const Widths& widths);

}  // namespace tpcalc::cuda
