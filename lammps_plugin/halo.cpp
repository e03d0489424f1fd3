// SPDX-License-Identifier: GPL-2.0-or-later
#include "halo.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace tpcalc {
namespace {

HaloPeer *active = nullptr;

at::Tensor exchange(const at::Tensor &x) {
  HaloPeer *peer = active;
  if (!peer) return x.clone();
  TORCH_CHECK(x.dim() == 2 && x.size(0) == peer->n_local(),
              "tpcalc::halo_exchange: expected one row per local atom (", peer->n_local(),
              "), got a tensor of shape ", x.sizes());
  auto y = at::zeros({peer->n_all(), x.size(1)}, x.options().device(at::kCPU));
  y.narrow(0, 0, peer->n_local()).copy_(x);
  peer->to_ghosts(y.data_ptr(), x.size(1), x.scalar_type() == at::kFloat);
  return y.to(x.device());
}

at::Tensor reduce(const at::Tensor &g) {
  HaloPeer *peer = active;
  if (!peer) return g.clone();
  auto y = g.to(at::kCPU, g.scalar_type(), /*non_blocking=*/false, /*copy=*/true).contiguous();
  peer->from_ghosts(y.data_ptr(), y.size(1), y.scalar_type() == at::kFloat);
  return y.narrow(0, 0, peer->n_local()).clone().to(g.device());
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Each is the other's adjoint, so any order of derivative is right.
struct Reduce;
struct Exchange : public torch::autograd::Function<Exchange> {
  static at::Tensor forward(AutogradContext *, const at::Tensor &x) { return exchange(x); }
  static variable_list backward(AutogradContext *, variable_list g);
};
struct Reduce : public torch::autograd::Function<Reduce> {
  static at::Tensor forward(AutogradContext *, const at::Tensor &g) { return reduce(g); }
  static variable_list backward(AutogradContext *, variable_list x) {
    return {Exchange::apply(x[0])};
  }
};
variable_list Exchange::backward(AutogradContext *, variable_list g) {
  return {Reduce::apply(g[0])};
}

at::Tensor exchange_autograd(const at::Tensor &x) { return Exchange::apply(x); }

}  // namespace

HaloScope::HaloScope(HaloPeer *peer) : outer(active) { active = peer; }
HaloScope::~HaloScope() { active = outer; }

void register_halo_ops() {
  static torch::Library *library = nullptr;  // never freed: the plugin is linked nodelete
  if (library) return;
  library = new torch::Library(torch::Library::FRAGMENT, "tpcalc", std::nullopt, __FILE__, __LINE__);
  if (!c10::Dispatcher::singleton().findSchema({"tpcalc::halo_exchange", ""}))
    library->def("halo_exchange(Tensor x) -> Tensor");
  // direct keys: they take precedence over the composite kernel that Python may have registered
  library->impl("halo_exchange", c10::DispatchKey::CPU, TORCH_FN(exchange));
  library->impl("halo_exchange", c10::DispatchKey::CUDA, TORCH_FN(exchange));
  library->impl("halo_exchange", c10::DispatchKey::AutogradCPU, TORCH_FN(exchange_autograd));
  library->impl("halo_exchange", c10::DispatchKey::AutogradCUDA, TORCH_FN(exchange_autograd));
}

}  // namespace tpcalc
