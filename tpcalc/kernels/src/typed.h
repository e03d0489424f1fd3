// An op by its name, found once: `static const auto op = typed<decltype(f)>("tpcalc::f")`.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

namespace tpcalc {
namespace {

template <class F> auto typed(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}

}  // namespace
}  // namespace tpcalc
