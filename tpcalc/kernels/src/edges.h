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
    int64_t low = 0, high = -1, low_s = 0, high_s = -1;
    bool sorted = true;
    for (int64_t e = 0; e < n; e++) {
      low = std::min(low, receivers[e]), high = std::max(high, receivers[e]);
      low_s = std::min(low_s, senders[e]), high_s = std::max(high_s, senders[e]);
      sorted &= e == 0 || receivers[e - 1] <= receivers[e];
    }
    TORCH_CHECK_INDEX(low >= 0 && high < num_receivers, "tpcalc::conv: receivers lie in [", low,
                      ", ", high, "], there are ", num_receivers, " nodes to receive");
    TORCH_CHECK_INDEX(low_s >= 0 && high_s < num_senders, "tpcalc::conv: senders lie in [", low_s,
                      ", ", high_s, "], there are ", num_senders, " nodes that send");
    for (int64_t e = 0; e < n; e++) row_ptr[receivers[e] + 1]++;
    for (int64_t i = 0; i < num_receivers; i++) row_ptr[i + 1] += row_ptr[i];
    if (sorted) return;
    order.resize(n);
    std::vector<int64_t> next(row_ptr.begin(), row_ptr.end() - 1);
    for (int64_t e = 0; e < n; e++) order[next[receivers[e]]++] = e;
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
