// tpcalc::halo_exchange: the one place where the model and the domain decomposition meet.
// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once
#include <cstdint>

namespace tpcalc {

// Who knows how to move rows between ranks. Rows are contiguous, `width` numbers each.
class HaloPeer {
 public:
  virtual int64_t n_local() const = 0;
  virtual int64_t n_all() const = 0;
  // rows [n_local, n_all) receive the values of their owners
  virtual void to_ghosts(void *rows, int64_t width, bool single) = 0;
  // rows [n_local, n_all) are added to the rows of their owners (the adjoint)
  virtual void from_ghosts(void *rows, int64_t width, bool single) = 0;

 protected:
  ~HaloPeer() = default;  // never deleted through this face
};

// While a scope lives, the op talks to its peer; without one it is the identity.
class HaloScope {
 public:
  explicit HaloScope(HaloPeer *);
  ~HaloScope();
  HaloScope(const HaloScope &) = delete;

 private:
  HaloPeer *outer;
};

// Idempotent; tolerates a Python process that has defined the schema before.
void register_halo_ops();

}  // namespace tpcalc
