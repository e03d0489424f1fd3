// What a step does with edges outside of the network: which of a Verlet list are within the
// cutoff, and sums of edge gradients at their atoms. Threads take pieces whose number does not
// depend on that of threads: results are the same for any.
#pragma once
#include <limits>
#include <tuple>
#include <vector>

#include "step_common.h"

namespace tpcalc {
namespace {

inline void check_edges(const char* op, const Tensor& edge_index) {
  TORCH_CHECK(edge_index.dim() == 2 && edge_index.size(0) == 2 && edge_index.is_cpu() &&
                  edge_index.scalar_type() == at::kLong && edge_index.is_contiguous(),
              "tpcalc::", op, ": edge_index must be a contiguous int64 CPU matrix [2, E], got ",
              edge_index.sizes(), " ", edge_index.scalar_type());
}

inline void check_atom(const char* op, int64_t atom, int64_t edge, int64_t atoms) {
  TORCH_CHECK_INDEX(atom >= 0 && atom < atoms, "tpcalc::", op, ": atom ", atom, " of edge ", edge,
                    " is not one of ", atoms, " atoms");
}

inline void check_rows(const char* op, const char* what, const Tensor& x, int64_t rows,
                       at::ScalarType dtype) {
  TORCH_CHECK(x.dim() == 2 && x.size(0) == rows && x.size(1) == 3 && x.is_cpu() &&
                  x.scalar_type() == dtype && x.is_contiguous(),
              "tpcalc::", op, ": ", what, " must be a contiguous ", dtype, " CPU matrix [", rows,
              ", 3], got ", x.sizes(), " ", x.scalar_type());
}

struct Verlet {
  const double *x, *offsets;
  const int64_t *receivers, *senders;
  int64_t atoms;

  struct Edge {
    double v[3], square;
  };
  Edge edge(int64_t e) const {
    const double *to = x + 3 * receivers[e], *from = x + 3 * senders[e], *offset = offsets + 3 * e;
    Edge made{};
    for (int c = 0; c < 3; c++) {
      made.v[c] = from[c] - to[c] + offset[c];
      made.square += made.v[c] * made.v[c];
    }
    return made;
  }
  // the numbers of those of first .. last that are shorter, at `kept`; how many
  int64_t within(int64_t first, int64_t last, double square, int64_t* kept, double& smallest) const {
    int64_t n = 0;
    for (int64_t e = first; e < last; e++) {
      check_atom("edges_within", receivers[e], e, atoms);
      check_atom("edges_within", senders[e], e, atoms);
      const double own = edge(e).square;
      smallest = std::min(smallest, own);
      kept[n] = e;  // overwritten by the next one, unless it is kept
      n += own < square;
    }
    return n;
  }
};

// positions [N, 3], edge_index [2, M], offsets [M, 3], shifts [M, 3]: edge_index, vectors
// r_sender - r_receiver + offset, and shifts of the edges shorter than `cutoff`, in their order,
// and the smallest square of a length
std::tuple<Tensor, Tensor, Tensor, double> edges_within(const Tensor& positions,
                                                        const Tensor& edge_index,
                                                        const Tensor& offsets,
                                                        const Tensor& shifts, double cutoff) {
  const char* op = "edges_within";
  constexpr int64_t piece = 2048;
  check_rows(op, "positions", positions, positions.size(0), at::kDouble);
  check_edges(op, edge_index);
  const int64_t all = edge_index.size(1), pieces = (all + piece - 1) / piece;
  check_rows(op, "offsets", offsets, all, at::kDouble);
  check_rows(op, "shifts", shifts, all, at::kLong);
  const int64_t* index = edge_index.data_ptr<int64_t>();
  const Verlet list{positions.data_ptr<double>(), offsets.data_ptr<double>(), index, index + all,
                    positions.size(0)};
  const Tensor numbers = at::empty({all}, edge_index.options());
  int64_t* kept = numbers.data_ptr<int64_t>();
  std::vector<int64_t> starts(pieces + 1, 0);
  std::vector<double> smallest(pieces, std::numeric_limits<double>::infinity());
  at::parallel_for(0, pieces, 1, [&](int64_t a, int64_t b) {
    for (int64_t p = a; p < b; p++)
      starts[p + 1] = list.within(p * piece, std::min(all, (p + 1) * piece), cutoff * cutoff,
                                  kept + p * piece, smallest[p]);
  });
  for (int64_t p = 0; p < pieces; p++) starts[p + 1] += starts[p];
  const int64_t n = starts[pieces], *shift = shifts.data_ptr<int64_t>();
  Tensor found = at::empty({2, n}, edge_index.options()), units = at::empty({n, 3}, shifts.options());
  Tensor vectors = at::empty({n, 3}, positions.options());
  int64_t *receivers = found.data_ptr<int64_t>(), *senders = receivers + n;
  int64_t* unit = units.data_ptr<int64_t>();
  double* v = vectors.data_ptr<double>();
  at::parallel_for(0, pieces, 1, [&](int64_t a, int64_t b) {
    for (int64_t p = a; p < b; p++)
      for (int64_t k = starts[p]; k < starts[p + 1]; k++) {
        const int64_t e = kept[p * piece + k - starts[p]];
        receivers[k] = list.receivers[e], senders[k] = list.senders[e];
        const Verlet::Edge edge = list.edge(e);
        for (int c = 0; c < 3; c++) v[3 * k + c] = edge.v[c], unit[3 * k + c] = shift[3 * e + c];
      }
  });
  const auto least = std::min_element(smallest.begin(), smallest.end());
  return {found, vectors, units, pieces ? *least : std::numeric_limits<double>::infinity()};
}

// Sums of edges first .. last at their atoms: force (3), and virial (9) where `width` is 12
template <class T> struct EdgeSums {
  const T *g, *v;
  const int64_t *receivers, *senders;
  int64_t atoms;

  template <int width> void add(int64_t first, int64_t last, double* sums) const {
    for (int64_t e = first; e < last;) {
      const int64_t atom = receivers[e];
      check_atom("edge_sums", atom, e, atoms);
      double own[width] = {};  // its edges stand together
      for (; e < last && receivers[e] == atom; e++) {
        check_atom("edge_sums", senders[e], e, atoms);
        double* other = sums + width * senders[e];
        double pull[3];
        for (int c = 0; c < 3; c++) {
          pull[c] = static_cast<double>(g[3 * e + c]);
          own[c] += pull[c], other[c] -= pull[c];
        }
        if constexpr (width == 12)
          for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++) {
              const double half = -0.5 * static_cast<double>(v[3 * e + a]) * pull[b];
              own[3 + 3 * a + b] += half, other[3 + 3 * a + b] += half;
            }
      }
      for (int c = 0; c < width; c++) sums[width * atom + c] += own[c];
    }
  }

  // forces [atoms, 3], virials [atoms, 9] or null
  template <int width> void all(int64_t edges, double* forces, double* virials) const {
    const int64_t pieces = std::clamp<int64_t>(edges / 2048, 1, 4), size = atoms * width;
    std::vector<double> sums(pieces * size, 0.0);
    at::parallel_for(0, pieces, 1, [&](int64_t a, int64_t b) {
      for (int64_t p = a; p < b; p++)
        add<width>(p * edges / pieces, (p + 1) * edges / pieces, sums.data() + p * size);
    });
    over_rows(atoms, 10 * width * pieces, [&](int64_t a, int64_t b) {
      for (int64_t atom = a; atom < b; atom++)
        for (int64_t c = 0; c < width; c++) {
          double total = 0;
          for (int64_t p = 0; p < pieces; p++) total += sums[p * size + atom * width + c];
          (c < 3 ? forces[3 * atom + c] : virials[9 * atom + c - 3]) = total;
        }
    });
  }
};

// g = dE/d(vectors) [E, 3]: forces [n, 3], f_receiver += g, f_sender -= g; and, where wanted,
// virials [n, 3, 3], -r (x) g / 2 to either atom. float64, whatever g is.
std::tuple<Tensor, Tensor> edge_sums(const Tensor& g_, const Tensor& vectors_,
                                     const Tensor& edge_index, int64_t n, bool with_virials) {
  check_edges("edge_sums", edge_index);
  const Tensor g = g_.contiguous(), vectors = vectors_.contiguous();
  check_matrix("edge_sums", "the gradient", g, 3);
  check_rows("edge_sums", "the gradient", g, edge_index.size(1), g.scalar_type());
  check_rows("edge_sums", "edge vectors", vectors, edge_index.size(1), g.scalar_type());
  const auto options = g.options().dtype(at::kDouble);
  Tensor forces = at::empty({n, 3}, options), virials = at::empty({with_virials ? n : 0, 3, 3}, options);
  const int64_t edges = edge_index.size(1), *index = edge_index.data_ptr<int64_t>();
  const auto sum = [&](auto zero) {
    using T = decltype(zero);
    const EdgeSums<T> sums{g.data_ptr<T>(), vectors.data_ptr<T>(), index, index + edges, n};
    if (with_virials)
      sums.template all<12>(edges, forces.data_ptr<double>(), virials.data_ptr<double>());
    else
      sums.template all<3>(edges, forces.data_ptr<double>(), nullptr);
  };
  g.scalar_type() == at::kDouble ? sum(double()) : sum(float());
  return {forces, virials};
}

}  // namespace
}  // namespace tpcalc
