#include "conv_plan.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "blocks.h"
#include "split_rows.h"

namespace tpcalc {
namespace {

// The instruction sets this machine has, widest first
std::vector<const Kernels*> find_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  const char* limit = std::getenv("TPCALC_ISA");  // for tests: avx2 or baseline
  const bool any = limit == nullptr;
  const bool avx2 = any || std::strcmp(limit, "avx2") == 0;
  TORCH_CHECK(avx2 || std::strcmp(limit, "baseline") == 0, "TPCALC_ISA is '", limit,
              "'; it can be avx2 or baseline, or unset");
  if (any && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    found.push_back(&kernels_avx512());
  if (avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&kernels_avx2());
#endif
  found.push_back(&kernels_baseline());
  return found;
}

const std::vector<const Kernels*>& available_kernels() {
  static const std::vector<const Kernels*> found = find_kernels();
  return found;
}

// writes[r] = 1 where row r is the first to touch its block. Returns whether the result must be
// zeroed first: blocks overlap in part (then nobody writes), or leave columns untouched.
bool first_writers(const std::vector<Block>& blocks, int64_t dim, std::vector<uint8_t>& writes) {
  std::vector<Block> distinct;
  int64_t covered = 0;
  for (size_t r = 0; r < blocks.size(); r++) {
    bool fresh = true;
    for (const Block& b : distinct) {
      if (b == blocks[r]) {
        fresh = false;
      } else if (b.overlaps(blocks[r])) {
        std::fill(writes.begin(), writes.end(), uint8_t(0));
        return true;
      }
    }
    writes[r] = fresh;
    if (!fresh) continue;
    distinct.push_back(blocks[r]);
    covered += blocks[r].height * blocks[r].channels;
  }
  return covered < dim;
}

void check_tables(const at::Tensor& paths, const at::Tensor& couplings, const at::Tensor& coef) {
  TORCH_CHECK(paths.dim() == 2 && paths.size(1) == kRowFields && paths.scalar_type() == at::kInt &&
                  paths.is_cpu(),
              "tpcalc::conv: paths must be an int32 CPU tensor [rows, ", kRowFields, "], got ",
              paths.sizes());
  TORCH_CHECK(couplings.dim() == 2 && couplings.size(1) == 2 &&
                  couplings.scalar_type() == at::kInt && couplings.is_cpu() && coef.dim() == 1 &&
                  coef.size(0) == couplings.size(0) && coef.is_cpu(),
              "tpcalc::conv: couplings must be int32 [n, 2] with n coefficients, got ",
              couplings.sizes(), " and ", coef.sizes());
}

}  // namespace

int smallest_shape(const Shape* shapes, int n, const Row& r, const Coupling* couplings) {
  uint64_t mask = 0;
  for (int c = r.nz_begin; c < r.nz_end; c++) mask |= 1ull << couplings[c].entry;
  int best = -1;
  for (int s = 0; s < n; s++) {
    if (shapes[s].d1 != r.d1 || shapes[s].d3 != r.d3 || (mask & ~shapes[s].mask)) continue;
    if (best < 0 ||
        __builtin_popcountll(shapes[s].mask) < __builtin_popcountll(shapes[best].mask))
      best = s;
  }
  TORCH_INTERNAL_ASSERT(best >= 0, "no compiled shape for ", r.d1, " x ", r.d3);
  return best;
}

const Kernels& widest_kernels() { return *available_kernels().front(); }

ConvPlan::ConvPlan(const at::Tensor& paths, const at::Tensor& couplings, const at::Tensor& coef,
                   at::ScalarType dtype, const Widths& widths)
    : widths_(widths), dtype_(dtype), given_coef_(coef.clone()) {
  const Row* rows = static_cast<const Row*>(paths.data_ptr());
  const Coupling* nz = static_cast<const Coupling*>(couplings.data_ptr());
  given_rows_.assign(rows, rows + paths.size(0));
  given_couplings_.assign(nz, nz + couplings.size(0));
  check_rows();
  SplitRows split(given_rows_.data(), paths.size(0), nz);
  rows_ = std::move(split.rows), couplings_ = std::move(split.couplings);
  coef_ = coef.to(dtype).index_select(0, at::tensor(split.from));
  number_entries();
  std::vector<Block> out, w;
  for (const Row& r : rows_) {
    out.push_back({r.out_offset, r.out_stride, r.d3, r.channels});
    w.push_back({r.w_offset, 0, 1, r.channels});
  }
  writes_out_.resize(rows_.size());
  writes_w_.resize(rows_.size());
  zero_out = first_writers(out, widths.out, writes_out_);
  zero_w = first_writers(w, widths.w, writes_w_);
  choose_kernels();
  sort_by_column();
  plan.zero_w = zero_w;
  plan.rows = rows_.data();
  plan.num_rows = static_cast<int32_t>(rows_.size());
  plan.m_offset = m_offset_.data();
  plan.kernel = kernel_.data();
  plan.writes_out = writes_out_.data();
  plan.writes_w = writes_w_.data();
  plan.couplings = couplings_.data();
  plan.by_column = by_column_.data();
  plan.coef = coef_.data_ptr();
  plan.coef_by_column = coef_by_column_.data_ptr();
}

void ConvPlan::check_rows() const {
  const auto [h_dim, y_dim, w_dim, out_dim] = widths_;
  const int64_t num_nz = static_cast<int64_t>(given_couplings_.size());
  for (const Row& r : given_rows_) {
    TORCH_CHECK(r.d1 > 0 && r.d3 > 0 && r.d1 < 64 && r.d3 < 64 && r.channels > 0 &&
                    r.h_offset >= 0 && r.h_stride >= 0 && r.w_offset >= 0 && r.out_offset >= 0 &&
                    r.out_stride >= 0 && 0 <= r.nz_begin && r.nz_begin <= r.nz_end &&
                    r.nz_end <= num_nz,
                "tpcalc::conv: a row of the path table is malformed");
    const int64_t h_end = r.h_offset + int64_t(r.d1 - 1) * r.h_stride + r.channels;
    const int64_t out_end = r.out_offset + int64_t(r.d3 - 1) * r.out_stride + r.channels;
    TORCH_CHECK(h_end <= h_dim, "tpcalc::conv: node features have ", h_dim,
                " columns, the path table needs at least ", h_end);
    const int64_t w_end = int64_t(r.w_offset) + r.channels;
    TORCH_CHECK(w_end <= w_dim, "tpcalc::conv: edge weights have ", w_dim,
                " columns, the path table needs at least ", w_end);
    TORCH_CHECK(out_end <= out_dim, "tpcalc::conv: the output has ", out_dim,
                " columns, the path table needs at least ", out_end);
    for (int n = r.nz_begin; n < r.nz_end; n++)
      TORCH_CHECK(given_couplings_[n].entry >= 0 && given_couplings_[n].entry < r.d1 * r.d3 &&
                      given_couplings_[n].column >= 0 && given_couplings_[n].column < y_dim,
                  "tpcalc::conv: the edge basis has ", y_dim, " columns, the coupling table needs ",
                  given_couplings_[n].column + 1, " (entry ", given_couplings_[n].entry, ")");
    for (int n = r.nz_begin + 1; n < r.nz_end; n++)
      TORCH_CHECK(given_couplings_[n - 1].entry <= given_couplings_[n].entry,
                  "tpcalc::conv: the couplings of a row must be sorted by entry");
  }
}

void ConvPlan::number_entries() {
  plan.num_m = plan.max_channels = 0;
  for (const Row& r : rows_) {
    m_offset_.push_back(plan.num_m);
    plan.num_m += r.d1 * r.d3;
    plan.max_channels = std::max(plan.max_channels, r.channels);
  }
}

// The widest vectors that divide all channel numbers; for each row the smallest compiled shape
// that holds its non-zeros.
void ConvPlan::choose_kernels() {
  const auto& available = available_kernels();
  const int64_t size = dtype_ == at::kFloat ? 4 : 8;
  kernels = available.front();
  for (const Kernels* k : available) {
    const int64_t lanes = k->vector_bytes / size;
    if (std::all_of(rows_.begin(), rows_.end(), [&](const Row& r) { return r.channels % lanes == 0; })) {
      kernels = k;
      break;
    }
  }
  for (const Row& r : rows_)
    kernel_.push_back(
        smallest_shape(kernels->shapes, kernels->num_shapes, r, couplings_.data()));
}

void ConvPlan::sort_by_column() {
  const int64_t y_dim = widths_.y;
  coef_by_column_ = at::empty_like(coef_);
  by_column_.resize(couplings_.size());
  std::vector<int32_t> count(y_dim + 1);
  const size_t size = coef_.element_size();
  const char* from = static_cast<const char*>(coef_.data_ptr());
  char* to = static_cast<char*>(coef_by_column_.data_ptr());
  for (const Row& r : rows_) {
    std::fill(count.begin(), count.end(), 0);
    for (int n = r.nz_begin; n < r.nz_end; n++) count[couplings_[n].column + 1]++;
    for (int64_t j = 0; j < y_dim; j++) count[j + 1] += count[j];
    for (int n = r.nz_begin; n < r.nz_end; n++) {
      const int at = r.nz_begin + count[couplings_[n].column]++;
      by_column_[at] = couplings_[n];
      std::memcpy(to + at * size, from + n * size, size);
    }
  }
}

bool ConvPlan::matches(const at::Tensor& paths, const at::Tensor& couplings, const at::Tensor& coef,
                       at::ScalarType dtype, const Widths& widths) const {
  const auto same = [](const void* a, const void* b, size_t n) {
    return n == 0 || std::memcmp(a, b, n) == 0;
  };
  return dtype == dtype_ && widths == widths_ && paths.size(0) == int64_t(given_rows_.size()) &&
         couplings.size(0) == int64_t(given_couplings_.size()) &&
         coef.scalar_type() == given_coef_.scalar_type() &&
         same(paths.data_ptr(), given_rows_.data(), given_rows_.size() * sizeof(Row)) &&
         same(couplings.data_ptr(), given_couplings_.data(),
              given_couplings_.size() * sizeof(Coupling)) &&
         same(coef.data_ptr(), given_coef_.data_ptr(), given_coef_.nbytes());
}

std::shared_ptr<const ConvPlan> plan_for(const at::Tensor& paths, const at::Tensor& couplings,
                                         const at::Tensor& coef, at::ScalarType dtype,
                                         const Widths& widths) {
  constexpr size_t kept = 64;
  thread_local std::vector<std::shared_ptr<const ConvPlan>> plans;
  check_tables(paths, couplings, coef);
  const at::Tensor p = paths.contiguous(), n = couplings.contiguous(), c = coef.contiguous();
  for (const auto& plan : plans)
    if (plan->matches(p, n, c, dtype, widths)) return plan;
  auto made = std::make_shared<const ConvPlan>(p, n, c, dtype, widths);
  if (plans.size() == kept) plans.erase(plans.begin());
  plans.push_back(made);
  return made;
}

}  // namespace tpcalc
