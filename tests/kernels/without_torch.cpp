// The kernels of one instruction set against dense sums, without torch: what runs where torch is
// not, under an emulator. Exit code 1 and a line for each result that is wrong.
#include <cmath>
#include <cstdio>
#include <vector>

#include "conv_abi.h"
#include "poly_abi.h"

using namespace tpcalc;

namespace {

constexpr int kNodes = 5, kEdgesAll = 41, kY = 4, kChannels = 11;
int failures = 0;

double random_number() {  // in [-1, 1)
  static uint64_t state = 1;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<double>(state >> 33) / (1ull << 30) - 1;
}
template <class T> std::vector<T> randoms(int64_t n) {
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(random_number());
  return x;
}
template <class T>
void compare(const char* what, const std::vector<T>& got, const std::vector<double>& want) {
  double worst = 0, largest = 1;
  for (size_t n = 0; n < want.size(); n++) {
    worst = std::fmax(worst, std::fabs(got[n] - want[n])), largest = std::fmax(largest, std::fabs(want[n]));
    if (!(got[n] == got[n])) worst = INFINITY;
  }
  if (worst <= (sizeof(T) == 4 ? 2e-5 : 1e-12) * largest) return;
  std::printf("%s, %zu bytes a number: off by %g of %g\n", what, sizeof(T), worst, largest);
  failures++;
}

// A row for every compiled shape; node 2 has no edges
template <class T> struct Convolution {
  std::vector<Row> rows;
  std::vector<int32_t> m_offset, kernel;
  std::vector<Coupling> couplings, by_column;
  std::vector<T> coef, coef_by_column, h, y, w, g;
  std::vector<uint8_t> first;
  std::vector<int64_t> row_ptr{0}, senders, receivers;
  int64_t h_dim = 0, w_dim = 0, out_dim = 0;
  Plan plan{};

  explicit Convolution(const Kernels& k) {
    for (int s = 0; s < k.num_shapes; s++) add(k.shapes[s], s);
    for (int i = 0; i < kNodes; i++) {
      const int n = i == 2 ? 0 : i == 4 ? kEdgesAll - 30 : 10;
      for (int e = 0; e < n; e++) receivers.push_back(i), senders.push_back((7 * e + i) % kNodes);
      row_ptr.push_back(static_cast<int64_t>(receivers.size()));
    }
    const auto edges = static_cast<int64_t>(receivers.size());
    h = randoms<T>(kNodes * h_dim), y = randoms<T>(edges * kY), w = randoms<T>(edges * w_dim);
    g = randoms<T>(kNodes * out_dim);
    first.assign(rows.size(), 1);
    plan = {rows.data(), static_cast<int32_t>(rows.size()), m_offset.data(), kernel.data(),
            first.data(), first.data(), couplings.data(), by_column.data(), coef.data(),
            coef_by_column.data(), m_offset.back() + rows.back().d1 * rows.back().d3, kChannels, false};
  }
  void add(const Shape& shape, int index) {
    const int begin = static_cast<int>(couplings.size());
    for (int entry = 0; entry < shape.d1 * shape.d3; entry++)
      if (shape.mask >> entry & 1)
        for (int column = entry % 2; column < kY; column += 2)
          couplings.push_back({entry, column}), coef.push_back(static_cast<T>(random_number()));
    for (int column = 0; column < kY; column++)
      for (int n = begin; n < static_cast<int>(couplings.size()); n++)
        if (couplings[n].column == column)
          by_column.push_back(couplings[n]), coef_by_column.push_back(coef[n]);
    m_offset.push_back(rows.empty() ? 0 : m_offset.back() + rows.back().d1 * rows.back().d3);
    rows.push_back({shape.d1, shape.d3, kChannels, static_cast<int32_t>(h_dim), kChannels,
                    static_cast<int32_t>(w_dim), static_cast<int32_t>(out_dim), kChannels, begin,
                    static_cast<int32_t>(couplings.size())});
    kernel.push_back(index);
    h_dim += shape.d1 * kChannels, w_dim += kChannels, out_dim += shape.d3 * kChannels;
  }
  Graph graph() const { return {row_ptr.data(), nullptr, senders.data(), 0, kNodes}; }

  // f(edge, coefficient, columns of h, y, w and out) for every term of the sum
  template <class F> void terms(const F& f) const {
    for (size_t e = 0; e < receivers.size(); e++)
      for (const Row& r : rows)
        for (int n = r.nz_begin; n < r.nz_end; n++)
          for (int c = 0; c < kChannels; c++)
            f(e, double(coef[n]), r.h_offset + couplings[n].entry / r.d3 * r.h_stride + c,
              couplings[n].column, r.w_offset + c,
              r.out_offset + couplings[n].entry % r.d3 * r.out_stride + c);
  }
  void check(const Kernels& k, const std::vector<T>& weights, const Radial& radial) const {
    const T* given = radial.r ? nullptr : weights.data();
    std::vector<T> out(kNodes * out_dim, 7), gh(h.size()), gy(y.size(), 7), gw(w.size(), 7);
    std::vector<T> gr(receivers.size(), 7);
    const Forward f{h.data(), y.data(), given, out.data(), h_dim, kY, w_dim, out_dim, radial};
    k.forward[sizeof(T) == 8](plan, graph(), f);
    const Backward b{g.data(), h.data(), y.data(), given, gh.data(), gy.data(),
                     given ? gw.data() : nullptr, given ? nullptr : gr.data(), h_dim, kY, w_dim,
                     out_dim, radial};
    k.backward[sizeof(T) == 8](plan, graph(), b);
    std::vector<double> o(out.size()), dh(h.size()), dy(y.size()), dw(w.size());
    terms([&](size_t e, double x, int64_t i, int64_t j, int64_t c, int64_t q) {
      const int64_t at_h = senders[e] * h_dim + i, at_o = receivers[e] * out_dim + q;
      const int64_t at_y = e * kY + j, at_w = e * w_dim + c;
      const double hv = h[at_h], yv = y[at_y], wv = weights[at_w], gv = g[at_o];
      o[at_o] += x * hv * yv * wv, dh[at_h] += x * gv * yv * wv;
      dy[at_y] += x * gv * hv * wv, dw[at_w] += x * gv * hv * yv;
    });
    compare("forward", out, o), compare("gradient of h", gh, dh), compare("gradient of y", gy, dy);
    if (given) return compare("gradient of w", gw, dw);
    std::vector<T> slope(w.size());
    k.radial[sizeof(T) == 8](radial, receivers.size(), 1, w_dim, slope.data());
    std::vector<double> dr(gr.size());
    for (size_t n = 0; n < slope.size(); n++) dr[n / w_dim] += double(slope[n]) * dw[n];
    compare("gradient of r", gr, dr);
  }
};

// Cubic B-splines by their recursion
double spline(double u, int degree, int n) {
  if (degree == 0) return u >= n && u < n + 1;
  return (u - n) / degree * spline(u, degree - 1, n) +
         (n + degree + 1 - u) / degree * spline(u, degree - 1, n + 1);
}

template <class T> void convolution(const Kernels& k) {
  const Convolution<T> c(k);
  c.check(k, c.w, Radial{});
  constexpr int intervals = 9;
  const auto table = randoms<T>((intervals + 3) * c.w_dim);
  std::vector<T> r = randoms<T>(static_cast<int64_t>(c.receivers.size())), values(c.w.size());
  for (T& x : r) x = static_cast<T>(2.5 + 2.4 * x);
  const Radial radial{r.data(), table.data(), nullptr, intervals, 2.0};
  k.radial[sizeof(T) == 8](radial, r.size(), 0, c.w_dim, values.data());
  std::vector<double> want(values.size());
  for (size_t n = 0; n < want.size(); n++) {
    const double u = r[n / c.w_dim] * 2.0;
    for (int q = 0; q < intervals + 3 && u < intervals; q++)
      want[n] += spline(u, 3, q - 3) * table[q * c.w_dim + n % c.w_dim];
  }
  compare("splines", values, want);
  c.check(k, values, radial);
}

// 1, x0, x1, x0 x1, x0 x0 x2 in two outputs
template <class T> void polynomial(const PolyKernels& k) {
  const int32_t prefix[] = {-1, -1, -1, 0, 0, 3}, last[] = {0, 1, 2, 0, 1, 2};
  const int32_t monomial[] = {1, 5, 3, 4}, out_of[] = {0, 0, 1, 1};
  const PolyTable table{prefix, last, monomial, out_of, 6, 4, 3, 2, nullptr, nullptr};
  const auto x = randoms<T>(kNodes * 3 * kChannels), coef = randoms<T>(4 * kChannels);
  const auto g = randoms<T>(kNodes * 2 * kChannels);
  std::vector<T> out(g.size()), gx(x.size());
  const Poly poly{nullptr, nullptr, kNodes, 1, kChannels, x.data(), coef.data(), g.data(), nullptr,
                  nullptr, out.data(), gx.data(), nullptr};
  for (int order = 0; order < 2; order++)
    k.poly[sizeof(T) == 8](table, poly, order, {0, kChannels, 0, kNodes});
  std::vector<double> want(out.size()), slope(x.size());
  for (int i = 0; i < kNodes; i++)
    for (int c = 0; c < kChannels; c++) {
      const auto at = [&](int k) { return (i * 3 + k) * kChannels + c; };
      const double a = x[at(0)], b = x[at(1)], d = x[at(2)];
      const double w[] = {coef[c], coef[kChannels + c], coef[2 * kChannels + c],
                          coef[3 * kChannels + c]};
      const double g0 = g[(i * 2) * kChannels + c], g1 = g[(i * 2 + 1) * kChannels + c];
      want[(i * 2) * kChannels + c] = w[0] * b + w[1] * a * a * d;
      want[(i * 2 + 1) * kChannels + c] = w[2] * a * a + w[3] * a * b;
      slope[at(0)] = g0 * w[1] * 2 * a * d + g1 * (w[2] * 2 * a + w[3] * b);
      slope[at(1)] = g0 * w[0] + g1 * w[3] * a;
      slope[at(2)] = g0 * w[1] * a * a;
    }
  compare("polynomial", out, want), compare("its gradient", gx, slope);
}

}  // namespace

int main() {
  convolution<float>(kernels_baseline()), convolution<double>(kernels_baseline());
  polynomial<float>(poly_kernels_baseline()), polynomial<double>(poly_kernels_baseline());
  if (failures == 0) std::printf("equal\n");
  return failures != 0;
}
