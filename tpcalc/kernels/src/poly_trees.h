// Which of a table's polynomials are compiled as straight-line code (trees.inc).
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "poly_abi.h"

namespace tpcalc {
namespace {

struct TreeShape {
  int32_t d_in, terms;
  const char* words;  // monomials of letters, component 0 is "a", between commas
};

inline const std::vector<TreeShape>& tree_shapes() {
#define TREE(number, d_in, terms, words) {d_in, terms, words},
#define I0(i)
#define I1(i)
#define J0(j)
#define J2(j)
#define X(l)
#define JE(j)
#define IE(i)
#define TREE_END(number)
  static const std::vector<TreeShape> shapes = {
#include "trees.inc"
  };
#undef TREE
#undef I0
#undef I1
#undef J0
#undef J2
#undef X
#undef JE
#undef IE
#undef TREE_END
  return shapes;
}

// Numbers of the trees of all outputs, and their first terms; empty where one is not compiled
inline std::vector<int32_t> match_trees(const PolyTable& t) {
  if (t.d_in > 26) return {};
  std::vector<std::string> words(t.num_monomials);
  for (int k = 0; k < t.num_monomials; k++)
    words[k] = (t.prefix[k] < 0 ? "" : words[t.prefix[k]]) + char('a' + t.last[k]);
  std::vector<int32_t> found(2 * t.d_out);
  for (int o = 0, term = 0; o < t.d_out; o++) {
    std::string text;
    const int first = term;
    for (; term < t.num_terms && t.term_out[term] == o; term++)
      text += (term > first ? "," : "") + words[t.term_monomial[term]];
    const auto& shapes = tree_shapes();
    int number = 0;
    for (const TreeShape& shape : shapes) {
      if (shape.d_in == t.d_in && shape.terms == term - first && text == shape.words) break;
      number++;
    }
    if (number == static_cast<int>(shapes.size())) return {};
    found[o] = number, found[t.d_out + o] = first;
  }
  return found;
}

}  // namespace
}  // namespace tpcalc
