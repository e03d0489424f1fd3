#include "device_tables.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "../blocks.h"

namespace tpcalc::cuda {
namespace {

// Rows whose blocks overlap, directly or through others, are of one group: `members` lists the
// rows group by group, in their order; group n begins at begin[n].
struct Groups {
  std::vector<int32_t> begin{0}, members;
  explicit Groups(const std::vector<Block>& blocks) {
    std::vector<size_t> group(blocks.size());
    for (size_t r = 0; r < blocks.size(); r++) {
      group[r] = r;
      for (size_t s = 0; s < r; s++) {
        const size_t from = group[r], to = group[s];
        if (from != to && blocks[r].overlaps(blocks[s]))
          std::replace(group.begin(), group.begin() + r + 1, from, to);
      }
    }
    for (size_t q = 0; q < blocks.size(); q++) {
      for (size_t r = 0; r < blocks.size(); r++)
        if (group[r] == q) members.push_back(static_cast<int32_t>(r));
      if (static_cast<int32_t>(members.size()) > begin.back())
        begin.push_back(static_cast<int32_t>(members.size()));
    }
  }
  int32_t count() const { return static_cast<int32_t>(begin.size()) - 1; }
};

}  // namespace

template <class V> const V* DeviceTables::upload(const V* values, size_t n) {
  const auto bytes = at::TensorOptions().dtype(at::kByte);
  const auto size = static_cast<int64_t>(n * sizeof(V));
  kept_.push_back(at::from_blob(const_cast<V*>(values), {size}, bytes).clone().to(device));
  return static_cast<const V*>(kept_.back().data_ptr());
}

DeviceTables::DeviceTables(std::shared_ptr<const ConvPlan> plan_, at::ScalarType dtype,
                           c10::Device device_)
    : plan(std::move(plan_)), device(device_), table{} {
  const Plan& p = plan->plan;
  std::vector<int32_t> shape, entry_begin{0}, column;
  const size_t size = dtype == at::kDouble ? 8 : 4;
  const char* from = static_cast<const char*>(p.coef);
  std::vector<char> coef;
  std::vector<Block> out, h;
  for (int r = 0; r < p.num_rows; r++) {
    const Row& row = p.rows[r];
    shape.push_back(smallest_shape(shapes(), num_shapes(), row, p.couplings));
    for (int entry = 0, n = row.nz_begin; entry < row.d1 * row.d3; entry++) {
      for (; n < row.nz_end && p.couplings[n].entry == entry; n++) {
        column.push_back(p.couplings[n].column);
        coef.insert(coef.end(), from + n * size, from + (n + 1) * size);
      }
      entry_begin.push_back(static_cast<int32_t>(column.size()));
    }
    table.max_m = std::max(table.max_m, row.d1 * row.d3);
    out.push_back({row.out_offset, row.out_stride, row.d3, row.channels});
    h.push_back({row.h_offset, row.h_stride, row.d1, row.channels});
  }
  const Groups by_out(out), by_h(h);
  table.rows = upload(p.rows, p.num_rows);
  table.shape = upload(shape.data(), shape.size());
  table.m_offset = upload(p.m_offset, p.num_rows);
  table.entry_begin = upload(entry_begin.data(), entry_begin.size());
  table.column = upload(column.data(), column.size());
  table.coef = upload(coef.data(), coef.size());
  table.writes_out = upload(p.writes_out, p.num_rows);
  table.writes_w = upload(p.writes_w, p.num_rows);
  table.out_group_begin = upload(by_out.begin.data(), by_out.begin.size());
  table.out_group = upload(by_out.members.data(), by_out.members.size());
  table.h_group_begin = upload(by_h.begin.data(), by_h.begin.size());
  table.h_group = upload(by_h.members.data(), by_h.members.size());
  table.num_rows = p.num_rows;
  table.num_out_groups = by_out.count();
  table.num_h_groups = by_h.count();
  table.max_channels = p.max_channels;
}

std::shared_ptr<const DeviceTables> device_tables(const at::Tensor& paths,
                                                  const at::Tensor& couplings,
                                                  const at::Tensor& coef, at::ScalarType dtype,
                                                  c10::Device device, const Widths& widths) {
  constexpr size_t kept = 64;
  thread_local std::vector<std::shared_ptr<const DeviceTables>> made;
  const auto plan = plan_for(paths.cpu(), couplings.cpu(), coef.cpu(), dtype, widths);
  for (const auto& tables : made)
    if (tables->plan == plan && tables->device == device) return tables;
  auto fresh = std::make_shared<const DeviceTables>(plan, dtype, device);
  if (made.size() == kept) made.erase(made.begin());
  made.push_back(fresh);
  return fresh;
}

}  // namespace tpcalc::cuda
