// Which of a table's polynomials are compiled as straight-line code (trees.inc).
#pragma once
#include <memory>
#include <string>
#include <utility>
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
  static const std::vector<TreeShape> shapes = {
#include "trees.inc"
  };
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

using Trees = std::shared_ptr<const std::vector<int32_t>>;

// `match_trees`, from a small cache of this thread as `plan_for`: every call of the op asks
inline Trees trees_for(const PolyTable& t) {
  constexpr size_t kept = 64;
  thread_local std::vector<std::pair<std::vector<int32_t>, Trees>> known;
  std::vector<int32_t> key{t.d_in, t.d_out};
  for (const int32_t* row : {t.prefix, t.last}) key.insert(key.end(), row, row + t.num_monomials);
  for (const int32_t* row : {t.term_monomial, t.term_out})
    key.insert(key.end(), row, row + t.num_terms);
  for (const auto& entry : known)
    if (entry.first == key) return entry.second;
  auto made = std::make_shared<const std::vector<int32_t>>(match_trees(t));
  if (known.size() == kept) known.erase(known.begin());
  known.emplace_back(std::move(key), made);
  return made;
}

}  // namespace
}  // namespace tpcalc
