// Rows of other numbers of components than are compiled, cut into rows that are.
#pragma once
#include <cstdint>
#include <vector>

#include "conv_abi.h"

namespace tpcalc {

// Where the pieces of d components begin, and d: as few and as equal as odd numbers up to 7 allow,
// which are what is compiled (masks.inc)
inline std::vector<int> pieces(int d) {
  int n = d % 2 ? 1 : 2;
  while (7 * n < d) n += 2;
  std::vector<int> begin;
  for (int q = 0; q <= n; q++) begin.push_back(q + 2 * ((d - n) / 2 * q / n));
  return begin;
}

// The same sums as those of the given rows. Pieces without couplings are left out.
struct SplitRows {
  std::vector<Row> rows;
  std::vector<Coupling> couplings;
  std::vector<int64_t> from;  // the given coupling that each one is

  SplitRows(const Row* given, int64_t n, const Coupling* of) {
    for (const Row* row = given; row < given + n; row++) {
      const auto i = pieces(row->d1), k = pieces(row->d3);
      for (size_t a = 0; a + 1 < i.size(); a++)
        for (size_t b = 0; b + 1 < k.size(); b++)
          add(*row, of, i[a], i[a + 1], k[b], k[b + 1], i.size() == 2 && k.size() == 2);
    }
  }

 private:
  void add(Row row, const Coupling* of, int i, int i_end, int k, int k_end, bool whole) {
    const auto begin = static_cast<int32_t>(couplings.size());
    for (int n = row.nz_begin; n < row.nz_end; n++) {
      const int at_i = of[n].entry / row.d3, at_k = of[n].entry % row.d3;
      if (at_i < i || at_i >= i_end || at_k < k || at_k >= k_end) continue;
      couplings.push_back({(at_i - i) * (k_end - k) + at_k - k, of[n].column});
      from.push_back(n);
    }
    row.nz_begin = begin, row.nz_end = static_cast<int32_t>(couplings.size());
    if (row.nz_begin == row.nz_end && !whole) return;
    row.h_offset += i * row.h_stride, row.out_offset += k * row.out_stride;
    row.d1 = i_end - i, row.d3 = k_end - k;
    rows.push_back(row);
  }
};

}  // namespace tpcalc
