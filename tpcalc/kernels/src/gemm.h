// Matrix products of the sizes of a network: C[r, :] = alpha A[r, :] B, sums in registers.
#pragma once
#include "simd.h"

namespace tpcalc {
namespace TPCALC_ISA {

constexpr int kTileRows = 6;
constexpr int kTileVectors = registers == 32 ? 4 : 2;
template <class T> constexpr int tile_columns = kTileVectors * lanes<T>;

template <class T> constexpr int64_t padded(int64_t columns) {
  return (columns + lanes<T> - 1) / lanes<T> * lanes<T>;
}

// a[i][j] <-> a[j][i] of a square of vectors
template <class T> TPCALC_INLINE void transpose_square(Vec<T> (&a)[lanes<T>]) {
  constexpr int L = lanes<T>;
#if defined(__clang__)
  for (int i = 0; i < L; i++)
    for (int j = 0; j < i; j++) std::swap(a[i][j], a[j][i]);
#else
  _Pragma("GCC unroll 4") for (int s = L / 2; s > 0; s /= 2) {
    typename Vector<T>::index low, high;
    for (int j = 0; j < L; j++) {
      low[j] = j & s ? L + j - s : j;
      high[j] = j & s ? L + j : j + s;
    }
    TPCALC_UNROLL for (int i = 0; i < L; i++) {
      if (i & s) continue;
      const Vec<T> x = a[i], y = a[i + s];
      a[i] = __builtin_shuffle(x, y, low), a[i + s] = __builtin_shuffle(x, y, high);
    }
  }
#endif
}

// B [k, n] by panels of tile_columns, each [k][width]; zeros beyond n. `transposed`: b is [n, k]
template <class T> void pack(const T* b, int64_t k, int64_t n, bool transposed, T* out) {
  constexpr int L = lanes<T>;
  for (int64_t j0 = 0; j0 < n; j0 += tile_columns<T>) {
    const int64_t width = std::min<int64_t>(tile_columns<T>, padded<T>(n - j0));
    const int64_t real = std::min<int64_t>(width, n - j0);
    for (int64_t j = 0; j < real; j += L) {
      const int64_t columns = std::min<int64_t>(L, real - j);
      if (!transposed) {
        const T* from = b + j0 + j;
        for (int64_t r = 0; r < k; r++) {
          T* to = out + r * width + j;
          if (columns == L) {
            store<T>(to, load<T>(from + r * n));
          } else {
            std::fill_n(std::copy_n(from + r * n, columns, to), L - columns, T(0));
          }
        }
        continue;
      }
      const T* from = b + (j0 + j) * k;
      int64_t r = 0;
      for (; columns == L && r + L <= k; r += L) {
        Vec<T> square[L];
        TPCALC_UNROLL for (int i = 0; i < L; i++) square[i] = load<T>(from + i * k + r);
        transpose_square<T>(square);
        TPCALC_UNROLL for (int i = 0; i < L; i++) store<T>(out + (r + i) * width + j, square[i]);
      }
      for (; r < k; r++)
        for (int64_t i = 0; i < L; i++)
          out[r * width + j + i] = i < columns ? from[i * k + r] : T(0);
    }
    out += k * width;
  }
}

// Rows of A (element k at a[r][k * a_step]) by one panel of NV vectors; `n` columns are written
template <class T> struct Tile {
  const T* const* a;
  int64_t a_step;
  const T* b;
  int64_t k;
  T alpha;
  bool add;
  T* const* c;
  int64_t c_offset, n;
};

template <class T, int MR, int NV> void multiply_tile(const Tile<T>& t) {
  constexpr int L = lanes<T>;
  Vec<T> sum[MR][NV] = {};
  const T* a[MR];
  TPCALC_UNROLL for (int r = 0; r < MR; r++) a[r] = t.a[r];
  const T* b = t.b;
  const int64_t step = t.a_step;
  for (int64_t k = 0; k < t.k; k++, b += NV * L) {
    Vec<T> bv[NV];
    TPCALC_UNROLL for (int v = 0; v < NV; v++) bv[v] = load<T>(b + v * L);
    TPCALC_UNROLL for (int r = 0; r < MR; r++) {
      const Vec<T> av = broadcast<T>(a[r][k * step]);
      TPCALC_UNROLL for (int v = 0; v < NV; v++) sum[r][v] += av * bv[v];
    }
  }
  const Vec<T> alpha = broadcast<T>(t.alpha);
  TPCALC_UNROLL for (int r = 0; r < MR; r++) {
    T* c = t.c[r] + t.c_offset;
    TPCALC_UNROLL for (int v = 0; v < NV; v++) {
      const int64_t left = t.n - v * L;
      Vec<T> value = alpha * sum[r][v];
      if (left >= L) {
        if (t.add) value += load<T>(c + v * L);
        store<T>(c + v * L, value);
      } else {
        for (int64_t j = 0; j < left; j++) c[v * L + j] = value[j] + (t.add ? c[v * L + j] : T(0));
      }
    }
  }
}

template <class T, int NV> void multiply_rows(const Tile<T>& t, int rows) {
  switch (rows) {
    case 6: return multiply_tile<T, 6, NV>(t);
    case 5: return multiply_tile<T, 5, NV>(t);
    case 4: return multiply_tile<T, 4, NV>(t);
    case 3: return multiply_tile<T, 3, NV>(t);
    case 2: return multiply_tile<T, 2, NV>(t);
    default: return multiply_tile<T, 1, NV>(t);
  }
}

template <class T> void multiply_panel(const Tile<T>& t, int rows) {
  const int64_t vectors = (t.n + lanes<T> - 1) / lanes<T>;
  if constexpr (kTileVectors == 4) {
    if (vectors == 4) return multiply_rows<T, 4>(t, rows);
    if (vectors == 3) return multiply_rows<T, 3>(t, rows);
  }
  if (vectors == 2) return multiply_rows<T, 2>(t, rows);
  multiply_rows<T, 1>(t, rows);
}

// c[r][0..n) = alpha sum_k a[r][k] B[k, :], or added to what is there; `b` is packed
template <class T>
void multiply(const T* const* a, T* const* c, int64_t rows, const T* b, int64_t k, int64_t n,
              T alpha, bool add) {
  for (int64_t j = 0; j < n; j += tile_columns<T>) {
    const int64_t columns = std::min<int64_t>(tile_columns<T>, n - j), width = padded<T>(columns);
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const int count = static_cast<int>(std::min<int64_t>(kTileRows, rows - r));
      multiply_panel<T>({a + r, 1, b, k, alpha, add, c + r, j, columns}, count);
    }
    b += k * width;
  }
}

}  // namespace TPCALC_ISA
}  // namespace tpcalc
