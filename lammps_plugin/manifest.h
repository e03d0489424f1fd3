// What `tpcalc export` writes beside the TorchScript code ("manifest.json").
// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once
#include <map>
#include <string>
#include <vector>

namespace tpcalc {

struct Manifest {
  std::string format, tpcalc, torch, dtype, units, variant, algorithm_class, source_sha256;
  std::vector<std::string> species;
  double cutoff = 0.0;  // Angstrom
  int num_layers = 0;
  bool halo = false;
};

// Throws std::runtime_error whose text is one sentence.
Manifest parse_manifest(const std::string &json);

// Hexadecimal SHA-256 of the bytes.
std::string sha256(const std::string &bytes);

}  // namespace tpcalc
