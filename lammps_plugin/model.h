// An exported potential on one rank: load, check, evaluate. Knows torch, not LAMMPS.
// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once
#include "halo.h"
#include "manifest.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tpcalc {

// Edges of one configuration: receiver (local, ascending), sender (local or ghost),
// vector = r_sender - r_receiver in Angstrom.
struct Edges {
  std::vector<int64_t> receivers, senders, species;  // species: one per local and ghost atom
  std::vector<double> vectors;                       // 3 per edge
  int64_t n_local = 0;
  size_t size() const { return receivers.size(); }
};

struct Seconds {
  double pack = 0.0, forward = 0.0, backward = 0.0;
};

class Model {
 public:
  // bytes: the whole .pt file. device: "cpu" or "cuda" (then cuda:`cuda_index`).
  // Throws std::runtime_error, the text one sentence about the file ("it has no ...").
  Model(const std::string &bytes, const std::string &device, int cuda_index);
  ~Model();

  // energies: [n_local] eV; gradient: dE/d(vector), 3 per edge, eV/Angstrom; valid until the
  // next call. Collective where the model exchanges ghosts. Throws std::exception.
  void evaluate(const Edges &edges, HaloPeer *peer, int threads);

  const double *energies = nullptr;
  const double *gradient = nullptr;
  Manifest manifest;
  std::string device_name, sha;
  int64_t halo_width = 0;  // widest row the model exchanges, in numbers of its dtype
  int64_t halo_count = 0;  // exchanges per forward pass
  Seconds seconds;         // since construction; forward and backward include communication

 private:
  struct Torch;
  std::unique_ptr<Torch> t;
};

// Loads LIBRARY (the tensor-product kernels) into the process; "" or why it could not.
std::string load_kernels(const std::string &library);
// The torch that this plugin was compiled against, e.g. "2.13.0".
std::string torch_version();
int cuda_devices();

}  // namespace tpcalc
