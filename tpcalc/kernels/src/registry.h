// Makes ops known to torch's dispatcher.
#pragma once
#include <torch/library.h>

#include <optional>
#include <string>

namespace tpcalc {

// Defines ops that are missing; those another library brought are left as they are. The
// Library objects live as long as the process: torch forgets an op when its Library goes.
struct Registry {
  torch::Library def{torch::Library::FRAGMENT, "tpcalc", std::nullopt, __FILE__, __LINE__};
  torch::Library cpu{torch::Library::IMPL, "tpcalc", c10::DispatchKey::CPU, __FILE__, __LINE__};
  torch::Library meta{torch::Library::IMPL, "tpcalc", c10::DispatchKey::Meta, __FILE__, __LINE__};
  torch::Library grad{torch::Library::IMPL, "tpcalc", c10::DispatchKey::Autograd, __FILE__,
                      __LINE__};

  // an op on CPU tensors alone, without derivatives
  template <class Cpu> void add(const char* name, const std::string& arguments, Cpu* on_cpu) {
    if (!define(name, arguments)) return;
    cpu.impl(name, on_cpu);
  }
  // without `autograd`: an op that only derivatives of others call
  template <class Cpu, class Meta, class Grad = Cpu>
  void add(const char* name, const std::string& arguments, Cpu* on_cpu, Meta* on_meta,
           Grad* autograd = nullptr) {
    if (!define(name, arguments)) return;
    cpu.impl(name, on_cpu);
    meta.impl(name, on_meta);
    if (autograd) grad.impl(name, autograd);
  }

 private:
  // whether the op was missing
  bool define(const char* name, const std::string& arguments) {
    if (c10::Dispatcher::singleton().findSchema({std::string("tpcalc::") + name, ""})) return false;
    def.def((name + arguments).c_str());
    return true;
  }
};

void add_step_ops(Registry& ops);  // step_op.cpp

}  // namespace tpcalc
