// What the ops on edges share on the CPU: sorting by receiver, parts for threads.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "inputs.h"

namespace tpcalc {
namespace {

// Edges in the order of their receivers; they usually come that way
struct SortedEdges {
  std::vector<int64_t> row_ptr, order;
  const int64_t* senders;

  SortedEdges(const Tensor& senders_, const Tensor& receivers_, int64_t num_senders,
              int64_t num_receivers)
      : row_ptr(num_receivers + 1), senders(senders_.data_ptr<int64_t>()) {
    const int64_t n = receivers_.size(0), *receivers = receivers_.data_ptr<int64_t>();
    int64_t outside = 0, outside_s = 0, falls = 0;  // negative once a number was
    for (int64_t e = 0; e < n; e++) {
      outside |= receivers[e] | (num_receivers - 1 - receivers[e]);
      outside_s |= senders[e] | (num_senders - 1 - senders[e]);
      falls |= receivers[e] - receivers[e ? e - 1 : 0];
    }
    if (outside < 0) refuse("receivers", "nodes to receive", receivers, n, num_receivers);
    if (outside_s < 0) refuse("senders", "nodes that send", senders, n, num_senders);
    if (falls >= 0) {
      int64_t i = 0;
      for (int64_t e = 0; e < n; e++)
        while (i <= receivers[e]) row_ptr[i++] = e;
      while (i <= num_receivers) row_ptr[i++] = n;
      return;
    }
    for (int64_t e = 0; e < n; e++) row_ptr[receivers[e] + 1]++;
    for (int64_t i = 0; i < num_receivers; i++) row_ptr[i + 1] += row_ptr[i];
    order.resize(n);
    std::vector<int64_t> next(row_ptr.begin(), row_ptr.end() - 1);
    for (int64_t e = 0; e < n; e++) order[next[receivers[e]]++] = e;
  }

  [[noreturn]] static void refuse(const char* what, const char* nodes, const int64_t* ends,
                                  int64_t n, int64_t num_nodes) {
    const auto [low, high] = std::minmax_element(ends, ends + n);
    TORCH_CHECK_INDEX(false, "tpcalc::conv: ", what, " lie in [", *low, ", ", *high,
                      "], there are ", num_nodes, " ", nodes);
  }

  Graph graph(int64_t first, int64_t last) const {
    return {row_ptr.data(), order.empty() ? nullptr : order.data(), senders, first, last};
  }
  int64_t num_receivers() const { return static_cast<int64_t>(row_ptr.size()) - 1; }

  // First receiver of part q of n of [from, to), with about as many edges in each part
  int64_t split(int q, int n, int64_t from, int64_t to) const {
    if (q == 0) return from;
    if (q == n) return to;
    const int64_t edge = row_ptr[from] + (row_ptr[to] - row_ptr[from]) * q / n;
    return std::lower_bound(row_ptr.begin() + from, row_ptr.begin() + to, edge) - row_ptr.begin();
  }
};

// Runs f(thread, first receiver, last receiver) over parts of [from, to) with equal numbers of edges
template <class F>
void over_receivers(const SortedEdges& edges, int parts, int64_t from, int64_t to, const F& f) {
  at::parallel_for(0, parts, 1, [&](int64_t a, int64_t b) {
    for (int64_t q = a; q < b; q++) {
      const int64_t first = edges.split(q, parts, from, to);
      const int64_t last = edges.split(q + 1, parts, from, to);
      if (first < last) f(static_cast<int>(q), first, last);
    }
  });
}
template <class F> void over_receivers(const SortedEdges& edges, int parts, const F& f) {
  over_receivers(edges, parts, 0, edges.num_receivers(), f);
}

inline int num_parts(int64_t num_edges) {  // fewer than 64 edges are not worth a thread
  return static_cast<int>(std::clamp<int64_t>(num_edges / 64, 1, at::get_num_threads()));
}
inline int num_parts(const SortedEdges& edges) { return num_parts(edges.row_ptr.back()); }

// One gradient of the nodes a thread: [parts, rows, columns]; the first is the result
struct Partial {
  Tensor all;
  Partial(const Tensor& like, int parts)
      : all(at::zeros({parts, like.size(0), like.size(1)}, like.options())) {}
  void* of(int q) { return all.select(0, q).data_ptr(); }
  Tensor sum() { return all.size(0) == 1 ? all.select(0, 0) : all.sum(0); }
};

}  // namespace
}  // namespace tpcalc
