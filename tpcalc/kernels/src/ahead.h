// Fetches what the next edges need while these are worked on.
#pragma once
#include "chunk.h"

namespace tpcalc {
namespace TPCALC_ISA {

// Rows of a matrix over edges, in `steps` parts and in the order in which they lie in memory:
// only then does the processor's own prefetcher join in, which keeps more lines under way.
template <class T, bool WRITE = false> class Ahead {
 public:
  // edges [from, to) of the order; rows null: nothing
  Ahead(const Graph& graph, const T* rows, int64_t width, int64_t from, int64_t to, int64_t steps)
      : graph_(graph), rows_(reinterpret_cast<const char*>(rows)), bytes_(width * sizeof(T)),
        edge_(from), end_(rows ? to : from),
        part_((std::max<int64_t>(to - from, 0) * bytes_ / std::max<int64_t>(steps, 1) + 64) / 64 * 64) {
    enter();
  }
  TPCALC_INLINE void step() {
    for (int64_t left = part_; left > 0 && edge_ < end_;) {
      const char* to = std::min(at_ + left, row_end_);
      left -= to - at_;
      for (; at_ < to; at_ += 64) __builtin_prefetch(at_, WRITE, 2);
      if (at_ >= row_end_) edge_++, enter();
    }
  }

 private:
  void enter() {
    if (edge_ >= end_) return;
    at_ = rows_ + (graph_.order ? graph_.order[edge_] : edge_) * bytes_;
    row_end_ = at_ + bytes_;
  }
  const Graph& graph_;
  const char *rows_, *at_ = nullptr, *row_end_ = nullptr;
  int64_t bytes_, edge_, end_, part_;
};

}  // namespace TPCALC_ISA
}  // namespace tpcalc
