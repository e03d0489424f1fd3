// What surrounds a step: reading the file, start and end blocks, threads, exchange of ghosts.
// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_tpcalc.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "neighbor.h"
#include "universe.h"
#include "update.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sched.h>

using namespace LAMMPS_NS;

// Rank 0 reads and all get the bytes: one access to the file system, and every rank takes the
// same decision (error->all needs all of them).
void PairTPCalc::load(const std::string &name) {
  std::string bytes;
  bigint size = -1;
  if (comm->me == 0) {
    std::ifstream in(name, std::ios::binary);
    if (in) {
      bytes.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
      if (!in.bad()) size = (bigint) bytes.size();
    }
  }
  MPI_Bcast(&size, 1, MPI_LMP_BIGINT, 0, world);
  if (size < 0)
    error->all(FLERR, "Pair style tpcalc: cannot read the potential '{}'; make it with "
                      "`tpcalc export NAME.safetensors -o NAME.pt`", name);
  bytes.resize(size);
  const bigint piece = 1 << 30;  // MPI counts are int
  for (bigint o = 0; o < size; o += piece)
    MPI_Bcast(&bytes[o], (int) std::min(piece, size - o), MPI_BYTE, 0, world);
  file = name;
  std::string why;
  try {
    const int devices = device == "cuda" ? std::max(1, tpcalc::cuda_devices()) : 1;
    model.reset(new tpcalc::Model(bytes, device, local_rank() % devices));
  } catch (const std::exception &e) {
    why = e.what();
  }
  if (!why.empty()) error->all(FLERR, "Pair style tpcalc: cannot use '{}': {}", name, why);
  if (!dtype.empty() && dtype != model->manifest.dtype)
    error->all(FLERR, "Pair style tpcalc: dtype {} was asked for and '{}' is {}; export it with "
                      "`tpcalc export --dtype {}`", dtype, name, model->manifest.dtype, dtype);
  const int64_t width = model->halo_width;
  const int doubles = int(model->manifest.dtype == "float32" ? (width + 1) / 2 : width);
  comm_forward = comm_reverse = comm_reverse_off = doubles;
  described = false;
  spent = {};
}

int PairTPCalc::local_rank() const {
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, comm->me, MPI_INFO_NULL, &node);
  int rank = 0;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_free(&node);
  return rank;
}

// OMP_NUM_THREADS or `package omp N` where given, else the cores of this node shared out evenly.
// Binding is respected: the cores are those that the ranks of the node may run on together.
int PairTPCalc::threads_per_rank() const {
  if (comm->nthreads > 1 || getenv("OMP_NUM_THREADS")) return std::max(1, comm->nthreads);
  unsigned char mine[sizeof(cpu_set_t)] = {0}, all[sizeof(cpu_set_t)] = {0};
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) memcpy(mine, &set, sizeof set);
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, comm->me, MPI_INFO_NULL, &node);
  int ranks = 1;
  MPI_Comm_size(node, &ranks);
  MPI_Allreduce(mine, all, (int) sizeof all, MPI_UNSIGNED_CHAR, MPI_BOR, node);
  MPI_Comm_free(&node);
  int cores = 0;
  for (unsigned char byte : all)
    for (; byte; byte &= byte - 1) cores++;
  return std::max(1, cores / (ranks * universe->nworlds));
}

void PairTPCalc::describe() {
  described = true;
  bigint mine[2] = {atom->nlocal, 0}, most[2];
  bigint run = 0;
  for (size_t k = 0; k < edges.size(); k++) {
    run = k > 0 && edges.receivers[k] == edges.receivers[k - 1] ? run + 1 : 1;
    mine[1] = std::max(mine[1], run);
  }
  MPI_Allreduce(mine, most, 2, MPI_LMP_BIGINT, MPI_MAX, world);
  bigint count = (bigint) edges.size(), total = 0;
  MPI_Allreduce(&count, &total, 1, MPI_LMP_BIGINT, MPI_SUM, world);
  if (comm->me) return;
  const auto &m = model->manifest;
  utils::logmesg(lmp, "tpcalc potential {}\n", file);
  utils::logmesg(lmp, "  sha256               {}\n", model->sha);
  utils::logmesg(lmp, "  variant              {} ({})\n", m.variant, m.algorithm_class);
  utils::logmesg(lmp, "  dtype, device        {}, {}\n", m.dtype, model->device_name);
  utils::logmesg(lmp, "  ranks x threads      {} x {}\n", comm->nprocs, threads);
  utils::logmesg(lmp, "  layers, exchanges    {}, {} of at most {} numbers per ghost\n",
                 m.num_layers, model->halo_count, model->halo_width);
  utils::logmesg(lmp, "  cutoff               {} Angstrom\n", m.cutoff);
  utils::logmesg(lmp, "  ghost cutoff         {:.6g} (units {})\n",
                 std::max(comm->cutghostuser, neighbor->cutneighmax), update->unit_style);
  utils::logmesg(lmp, "  largest neighbours   {} (mean {:.1f})\n", most[1],
                 double(total) / std::max<bigint>(1, atom->natoms));
  utils::logmesg(lmp, "  largest rank         {} atoms\n", most[0]);
}

// LAMMPS calls this on all ranks when it prints the timings of a run.
void PairTPCalc::finish() {
  if (!model || spent.steps == 0) return;
  const auto &now = model->seconds;
  const double halo_f = spent.halo_forward, halo_b = spent.halo_backward;
  double mine[6] = {spent.edges,
                    now.pack - spent.model.pack + spent.scatter,
                    now.forward - spent.model.forward - halo_f,
                    now.backward - spent.model.backward - halo_b,
                    halo_f + halo_b, 0.0};
  for (int i = 0; i < 5; i++) mine[5] += mine[i];
  double sum[6], most[6];
  MPI_Allreduce(mine, sum, 6, MPI_DOUBLE, MPI_SUM, world);
  MPI_Allreduce(mine, most, 6, MPI_DOUBLE, MPI_MAX, world);
  if (comm->me == 0) {
    const char *rows[6] = {"edges from neighbours", "packing and scatter", "model forward",
                           "model backward", "communication", "total"};
    utils::logmesg(lmp, "tpcalc time of {} ({} evaluations): mean over ranks, max, ms per "
                        "evaluation, share\n", file, spent.steps);
    for (int i = 0; i < 6; i++)
      utils::logmesg(lmp, "  {:22s} {:10.4f} s {:10.4f} s {:10.4f} ms {:6.1f} %\n", rows[i],
                     sum[i] / comm->nprocs, most[i], 1e3 * sum[i] / comm->nprocs / spent.steps,
                     sum[5] > 0.0 ? 100.0 * sum[i] / sum[5] : 0.0);
  }
  spent = {};
  spent.model = now;
}

/* ---- exchange of ghosts, called from tpcalc::halo_exchange while compute() runs ---- */

int64_t PairTPCalc::n_local() const { return atom->nlocal; }
int64_t PairTPCalc::n_all() const { return atom->nlocal + atom->nghost; }

void PairTPCalc::set_rows(void *buffer, int64_t width, bool single) {
  if (std::this_thread::get_id() != main_thread)
    error->one(FLERR, "Pair style tpcalc: the backward pass left the thread that may call MPI");
  rows = static_cast<char *>(buffer);
  row_bytes = (single ? sizeof(float) : sizeof(double)) * width;
  row_doubles = single ? (width + 1) / 2 : width;
  rows_single = single;
  if ((int) row_doubles > comm_forward)
    error->one(FLERR, "Pair style tpcalc: '{}' exchanges rows of {} doubles and announced {}", file,
               row_doubles, comm_forward);
}

void PairTPCalc::to_ghosts(void *buffer, int64_t width, bool single) {
  const double start = platform::walltime();
  set_rows(buffer, width, single);
  comm->forward_comm(this);
  spent.halo_forward += platform::walltime() - start;
}

void PairTPCalc::from_ghosts(void *buffer, int64_t width, bool single) {
  const double start = platform::walltime();
  set_rows(buffer, width, single);
  comm->reverse_comm(this);
  spent.halo_backward += platform::walltime() - start;
}

int PairTPCalc::pack_forward_comm(int n, int *which, double *buf, int, int *) {
  for (int i = 0; i < n; i++)
    memcpy(buf + row_doubles * i, rows + row_bytes * which[i], row_bytes);
  return n * (int) row_doubles;
}

void PairTPCalc::unpack_forward_comm(int n, int first, double *buf) {
  for (int i = 0; i < n; i++)
    memcpy(rows + row_bytes * (first + i), buf + row_doubles * i, row_bytes);
}

int PairTPCalc::pack_reverse_comm(int n, int first, double *buf) {
  for (int i = 0; i < n; i++)
    memcpy(buf + row_doubles * i, rows + row_bytes * (first + i), row_bytes);
  return n * (int) row_doubles;
}

template <typename T> static void add_row(char *to, const double *from, size_t bytes) {
  auto sum = reinterpret_cast<T *>(to);
  auto part = reinterpret_cast<const T *>(from);
  for (size_t c = 0; c < bytes / sizeof(T); c++) sum[c] += part[c];
}

void PairTPCalc::unpack_reverse_comm(int n, int *which, double *buf) {
  for (int i = 0; i < n; i++) {
    char *to = rows + row_bytes * which[i];
    if (rows_single)
      add_row<float>(to, buf + row_doubles * i, row_bytes);
    else
      add_row<double>(to, buf + row_doubles * i, row_bytes);
  }
}
