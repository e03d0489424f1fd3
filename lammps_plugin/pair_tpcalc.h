// pair_style tpcalc: the LAMMPS side.
// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once
#include "halo.h"
#include "model.h"

#include "pair.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace LAMMPS_NS {

class PairTPCalc : public Pair, public tpcalc::HaloPeer {
 public:
  PairTPCalc(class LAMMPS *);
  ~PairTPCalc() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void finish() override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  double memory_usage() override;

  int64_t n_local() const override;
  int64_t n_all() const override;
  void to_ghosts(void *, int64_t, bool) override;
  void from_ghosts(void *, int64_t, bool) override;

 private:
  std::unique_ptr<tpcalc::Model> model;
  tpcalc::Edges edges;
  std::vector<int> species_of_type;  // -1: not of this potential (NULL)
  std::string file, device = "cpu", dtype;
  int threads_asked = 0, threads = 1;
  double energy_scale, length_scale;  // LAMMPS units per eV, per Angstrom
  bool described = false, warned_centroid = false;

  // rows of the exchange in flight; buffers of LAMMPS are double, so two floats share one
  char *rows = nullptr;
  size_t row_bytes = 0, row_doubles = 0;
  bool rows_single = false;
  std::thread::id main_thread;

  struct {
    double edges = 0.0, scatter = 0.0, halo_forward = 0.0, halo_backward = 0.0;
    tpcalc::Seconds model;  // what Model::seconds was when the last table was printed
    bigint steps = 0;
  } spent;

  void load(const std::string &);
  int threads_per_rank() const;
  int local_rank() const;
  void describe();
  void refuse_small_box() const;
  void build_edges();
  void scatter();
  void tally_virial(size_t, double, double, double);
  void refuse_nan() const;
  void set_rows(void *, int64_t, bool);
};

}  // namespace LAMMPS_NS
