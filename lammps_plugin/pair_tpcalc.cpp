// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_tpcalc.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

namespace {
struct Units {
  const char *name;
  double energy, length;  // per eV, per Angstrom
};
// CODATA 2018, except `real`: LAMMPS' own factor, so that 1 eV is the same as everywhere in LAMMPS
const Units UNITS[] = {{"metal", 1.0, 1.0},
                       {"real", 23.060549, 1.0},
                       {"electron", 1.0 / 27.211386245988, 1.0 / 0.529177210903},
                       {"si", 1.602176634e-19, 1.0e-10}};
}  // namespace

PairTPCalc::PairTPCalc(LAMMPS *lmp) : Pair(lmp), energy_scale(0.0), length_scale(0.0) {
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_AVAIL;
  for (const auto &u : UNITS)
    if (strcmp(update->unit_style, u.name) == 0) {
      energy_scale = u.energy;
      length_scale = u.length;
    }
  if (energy_scale == 0.0)
    error->all(FLERR, "Pair style tpcalc: units are '{}'; they must be metal, real, electron or si "
                      "(use 'units metal': eV, Angstrom, ps)", update->unit_style);
}

PairTPCalc::~PairTPCalc() {
  if (copymode || !allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
}

void PairTPCalc::settings(int narg, char **arg) {
  for (int i = 0; i < narg; i += 2) {
    const std::string key = arg[i];
    if (key != "dtype" && key != "device" && key != "threads")
      error->all(FLERR, "Pair style tpcalc: unknown keyword '{}'; known: dtype float32|float64, "
                        "device cpu|cuda, threads N", key);
    if (i + 1 >= narg) error->all(FLERR, "Pair style tpcalc: keyword '{}' has no value", key);
    const std::string value = arg[i + 1];
    if (key == "dtype") {
      if (value != "float32" && value != "float64")
        error->all(FLERR, "Pair style tpcalc: dtype '{}' must be float32 or float64", value);
      dtype = value;
    } else if (key == "device") {
      if (value != "cpu" && value != "cuda")
        error->all(FLERR, "Pair style tpcalc: device '{}' must be cpu or cuda", value);
      if (value == "cuda" && tpcalc::cuda_devices() == 0)
        error->all(FLERR, "Pair style tpcalc: device cuda was asked for and torch {} finds no CUDA "
                          "device; use 'device cpu', or install a CUDA build of torch and run "
                          "`tpcalc build`", tpcalc::torch_version());
      device = value;
    } else {
      threads_asked = utils::inumeric(FLERR, arg[i + 1], false, lmp);
      if (threads_asked < 1)
        error->all(FLERR, "Pair style tpcalc: threads is {}; it must be at least 1", value);
    }
  }
}

void PairTPCalc::coeff(int narg, char **arg) {
  const int nt = atom->ntypes;
  if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR, "Pair style tpcalc: expected 'pair_coeff * * model.pt El1 El2 ...', one "
                      "element (or NULL) for each of the {} atom types", nt);
  if (narg != 3 + nt)
    error->all(FLERR, "Pair style tpcalc: {} element names given for {} atom types; one per type "
                      "(NULL where another pair style rules)", narg - 3, nt);
  load(arg[2]);
  const auto &known = model->manifest.species;
  species_of_type.assign(nt + 1, -1);
  for (int type = 1; type <= nt; type++) {
    const std::string element = arg[2 + type];
    if (element == "NULL") {
      if (!utils::strmatch(force->pair_style, "^hybrid"))
        error->all(FLERR, "Pair style tpcalc: NULL for atom type {} needs pair_style hybrid or "
                          "hybrid/overlay", type);
      continue;
    }
    const auto it = std::find(known.begin(), known.end(), element);
    if (it == known.end()) {
      std::string all;
      for (const auto &s : known) all += " " + s;
      error->all(FLERR, "Pair style tpcalc: '{}' does not know element '{}' of atom type {}; it "
                        "knows:{}", file, element, type, all);
    }
    species_of_type[type] = int(it - known.begin());
  }
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, nt + 1, nt + 1, "pair:setflag");
    memory->create(cutsq, nt + 1, nt + 1, "pair:cutsq");
  }
  int count = 0;
  for (int i = 1; i <= nt; i++)
    for (int j = i; j <= nt; j++)
      count += setflag[i][j] = (species_of_type[i] >= 0 && species_of_type[j] >= 0);
  if (count == 0) error->all(FLERR, "Pair style tpcalc: every atom type is NULL");
}

void PairTPCalc::init_style() {
  if (force->newton_pair == 0)
    error->all(FLERR, "Pair style tpcalc: newton pair is off; it must be on (use 'newton on')");
  if (atom->molecular != Atom::ATOMIC)
    for (int k = 1; k <= 3; k++)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        error->all(FLERR, "Pair style tpcalc: special_bonds is 0 for 1-{} neighbors, which removes "
                          "them from the neighbor list; use 'special_bonds lj/coul 1 1 1'", k + 1);
  if (neighbor->nex_type || neighbor->nex_group || neighbor->nex_mol)
    error->all(FLERR, "Pair style tpcalc: neigh_modify exclude removes neighbors that the "
                      "potential counts on; use 'neigh_modify exclude none'");
  if (neighbor->skin > 5.0 * model->manifest.cutoff * length_scale)  // LAMMPS' default in units si
    error->all(FLERR, "Pair style tpcalc: the neighbor skin is {}, more than five cutoffs of {}; set "
                      "it, e.g. 'neighbor {} bin'", neighbor->skin,
               model->manifest.cutoff * length_scale, length_scale);
  refuse_small_box();
  neighbor->add_request(this, NeighConst::REQ_FULL);
  // pair hybrid copies the sizes of its styles before pair_coeff, when they are not known yet
  if (force->pair && force->pair != this) {
    force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
    force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
  }
  threads = threads_asked ? threads_asked : threads_per_rank();
}

// Bricks take ghosts through as many boxes as the cutoff needs; tiles of LAMMPS reach one box far.
void PairTPCalc::refuse_small_box() const {
  if (comm->style != Comm::TILED) return;
  const double cutoff = model->manifest.cutoff * length_scale;
  const double reach = std::max(comm->cutghostuser, cutoff + neighbor->skin);
  const double *h = domain->h_inv;  // of a triclinic box the distances of its faces count
  const double heights[3] = {1.0 / std::sqrt(h[0] * h[0] + h[5] * h[5] + h[4] * h[4]),
                             1.0 / std::sqrt(h[1] * h[1] + h[3] * h[3]), 1.0 / std::abs(h[2])};
  for (int k = 0; k < domain->dimension; k++)
    if (domain->periodicity[k] && reach > heights[k])
      error->all(FLERR, "Pair style tpcalc: with 'comm_style tiled' the box must be wider than the "
                        "ghost cutoff {:.6g} (cutoff {:.6g} + skin {:.6g}, or comm_modify cutoff), "
                        "and it is {:.6g} in {}; use 'comm_style brick', a smaller skin, or "
                        "'replicate'", reach, cutoff, neighbor->skin, heights[k], "xyz"[k]);
}

double PairTPCalc::init_one(int i, int j) {
  if (setflag[i][j] == 0)
    error->all(FLERR, "Pair style tpcalc: no pair_coeff for atom types {} and {}", i, j);
  return model->manifest.cutoff * length_scale;
}

void PairTPCalc::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  main_thread = std::this_thread::get_id();
  const double start = platform::walltime();
  build_edges();
  if (!described) describe();
  if (cvflag_atom && model->manifest.num_layers > 1 && !warned_centroid) {
    warned_centroid = true;
    if (comm->me == 0)
      error->warning(FLERR, "Pair style tpcalc: centroid/stress/atom attributes the virial edge by "
                            "edge; a heat flux from it is exact for one layer, and '{}' has {}",
                     file, model->manifest.num_layers);
  }
  spent.edges += platform::walltime() - start;
  std::string what;
  try {
    model->evaluate(edges, this, threads);
  } catch (const std::exception &e) {  // one that escapes would kill LAMMPS without a message
    what = e.what();
  }
  if (!what.empty()) error->one(FLERR, "Pair style tpcalc: evaluating '{}' failed: {}", file, what);
  const double evaluated = platform::walltime();
  refuse_nan();
  scatter();
  spent.scatter += platform::walltime() - evaluated;
  spent.steps++;
}

// Every edge inside the cutoff; the list reaches further by the skin.
void PairTPCalc::build_edges() {
  const int nlocal = atom->nlocal, nall = nlocal + atom->nghost;
  double **x = atom->x;
  const int *type = atom->type;
  const double cut2 = std::pow(model->manifest.cutoff * length_scale, 2);
  edges.n_local = nlocal;
  edges.receivers.clear();
  edges.senders.clear();
  edges.vectors.clear();
  edges.species.resize(nall);
  for (int i = 0; i < nall; i++) edges.species[i] = std::max(0, species_of_type[type[i]]);
  for (int ii = 0; ii < list->inum; ii++) {
    const int i = list->ilist[ii];
    if (species_of_type[type[i]] < 0) continue;
    if (!edges.receivers.empty() && i < edges.receivers.back())
      error->one(FLERR, "Pair style tpcalc: the neighbor list is not in the order of the atoms; "
                        "use 'neighbor 2.0 bin'");
    const int *neighbors = list->firstneigh[i];
    for (int jj = 0; jj < list->numneigh[i]; jj++) {
      const int j = neighbors[jj] & NEIGHMASK;
      if (species_of_type[type[j]] < 0) continue;
      const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
      if (dx * dx + dy * dy + dz * dz >= cut2) continue;
      edges.receivers.push_back(i);
      edges.senders.push_back(j);
      edges.vectors.insert(edges.vectors.end(),
                           {dx / length_scale, dy / length_scale, dz / length_scale});
    }
  }
}

void PairTPCalc::refuse_nan() const {
  for (int i = 0; i < atom->nlocal; i++)
    if (!std::isfinite(model->energies[i])) {
      double nearest2 = HUGE_VAL;
      for (size_t k = 0; k < edges.size(); k++)
        if (edges.receivers[k] == i) {
          const double *r = &edges.vectors[3 * k];
          nearest2 = std::min(nearest2, r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
        }
      error->one(FLERR, "Pair style tpcalc: the energy of atom {} is {} at step {}; its nearest "
                        "neighbor is at {:.4} Angstrom. Check the structure and the timestep",
                 atom->tag_enable ? atom->tag[i] : i, model->energies[i], update->ntimestep,
                 std::sqrt(nearest2));
    }
}

void PairTPCalc::scatter() {
  double **f = atom->f;
  const int *type = atom->type;
  if (eflag_either)
    for (int i = 0; i < atom->nlocal; i++) {
      if (species_of_type[type[i]] < 0) continue;
      const double e = energy_scale * model->energies[i];
      if (eflag_global) eng_vdwl += e;
      if (eflag_atom) eatom[i] += e;
    }
  const double scale = energy_scale / length_scale;
  for (size_t k = 0; k < edges.size(); k++) {
    const int64_t i = edges.receivers[k], j = edges.senders[k];
    const double *g = model->gradient + 3 * k;
    const double gx = scale * g[0], gy = scale * g[1], gz = scale * g[2];
    f[i][0] += gx;
    f[i][1] += gy;
    f[i][2] += gz;
    f[j][0] -= gx;
    f[j][1] -= gy;
    f[j][2] -= gz;
    if (vflag_either || cvflag_atom) tally_virial(k, gx, gy, gz);
  }
}

// Edge k pulls its sender with -g: virial -r (x) g. Symmetric per-atom virial: half to each end.
// Centroid virial: all of it to the atom on which the force acts, the sender.
void PairTPCalc::tally_virial(size_t k, double gx, double gy, double gz) {
  const int64_t i = edges.receivers[k], j = edges.senders[k];
  const double x = length_scale * edges.vectors[3 * k], y = length_scale * edges.vectors[3 * k + 1],
               z = length_scale * edges.vectors[3 * k + 2];
  const double v[6] = {-x * gx, -y * gy, -z * gz, -0.5 * (x * gy + y * gx),
                       -0.5 * (x * gz + z * gx), -0.5 * (y * gz + z * gy)};
  for (int a = 0; a < 6; a++) {
    if (vflag_global) virial[a] += v[a];
    if (vflag_atom) {
      vatom[i][a] += 0.5 * v[a];
      vatom[j][a] += 0.5 * v[a];
    }
  }
  if (cvflag_atom) {
    const double c[9] = {-x * gx, -y * gy, -z * gz, -x * gy, -x * gz, -y * gz, -y * gx, -z * gx,
                         -z * gy};
    for (int a = 0; a < 9; a++) cvatom[j][a] += c[a];
  }
}

double PairTPCalc::memory_usage() {
  return Pair::memory_usage() +
      8.0 * (edges.vectors.capacity() + edges.receivers.capacity() + edges.senders.capacity() +
             edges.species.capacity());
}
