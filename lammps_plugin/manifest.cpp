// SPDX-License-Identifier: GPL-2.0-or-later
#include "manifest.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>

namespace tpcalc {
namespace {

[[noreturn]] void fail(const std::string &why) { throw std::runtime_error(why); }

// A reader for the JSON that Python's json.dumps writes. Older LAMMPS ships no JSON library.
// Scalars become strings; lists of scalars become vectors; nested objects are skipped.
class Reader {
 public:
  explicit Reader(const std::string &text) : s(text) {}
  std::map<std::string, std::vector<std::string>> object() {
    std::map<std::string, std::vector<std::string>> out;
    expect('{');
    if (take('}')) return out;
    do {
      std::string key = string();
      expect(':');
      out[key] = value(0);
    } while (take(','));
    expect('}');
    return out;
  }

 private:
  const std::string &s;
  size_t at = 0;
  void space() {
    while (at < s.size() && (s[at] == ' ' || s[at] == '\n' || s[at] == '\t' || s[at] == '\r')) at++;
  }
  bool take(char c) {
    space();
    if (at < s.size() && s[at] == c) return ++at, true;
    return false;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("its manifest.json is damaged: expected '") + c + "'");
  }
  std::string string() {
    expect('"');
    std::string out;
    while (at < s.size() && s[at] != '"') {
      if (s[at] == '\\' && at + 1 < s.size()) {
        const char c = s[++at];
        if (c == 'u') {  // json.dumps escapes everything beyond ASCII; only names of people use it
          at += 5;
          out += '?';
          continue;
        }
        out += c == 'n' ? '\n' : c == 't' ? '\t' : c;
        at++;
      } else
        out += s[at++];
    }
    expect('"');
    return out;
  }
  std::vector<std::string> value(int depth) {
    if (depth > 16) fail("its manifest.json is nested too deep");
    space();
    if (at >= s.size()) fail("its manifest.json ends too early");
    if (s[at] == '"') return {string()};
    std::vector<std::string> out;
    if (take('[')) {
      if (take(']')) return out;
      do {
        for (auto &item : value(depth + 1)) out.push_back(item);
      } while (take(','));
      expect(']');
      return out;
    }
    if (take('{')) {
      if (take('}')) return out;
      do {
        string();
        expect(':');
        value(depth + 1);
      } while (take(','));
      expect('}');
      return out;
    }
    std::string word;
    while (at < s.size() && (isalnum((unsigned char) s[at]) || s[at] == '-' || s[at] == '+' ||
                             s[at] == '.'))
      word += s[at++];
    if (word.empty()) fail("its manifest.json is damaged");
    return {word};
  }
};

}  // namespace

Manifest parse_manifest(const std::string &json) {
  if (json.empty()) fail("it has no manifest.json");
  auto all = Reader(json).object();
  auto one = [&](const char *key) {
    auto it = all.find(key);
    if (it == all.end() || it->second.size() != 1)
      fail(std::string("its manifest.json lacks '") + key + "'");
    return it->second[0];
  };
  Manifest m;
  m.format = one("format");
  if (m.format != "tpcalc-torchscript-1")
    fail("its format is '" + m.format + "' and this plugin reads 'tpcalc-torchscript-1'");
  m.tpcalc = one("tpcalc");
  m.torch = one("torch");
  m.dtype = one("dtype");
  if (m.dtype != "float32" && m.dtype != "float64") fail("its dtype is '" + m.dtype + "'");
  m.units = one("units");
  if (m.units != "metal") fail("its units are '" + m.units + "', expected 'metal' (eV, Angstrom)");
  m.variant = one("variant");
  m.algorithm_class = one("algorithm_class");
  m.source_sha256 = one("source_sha256");
  m.num_layers = std::atoi(one("num_layers").c_str());
  m.halo = one("halo") == "true";
  m.cutoff = std::atof(one("cutoff").c_str());
  if (!(m.cutoff > 0.0) || !std::isfinite(m.cutoff)) fail("its cutoff is " + one("cutoff"));
  m.species = all["species"];
  if (m.species.empty()) fail("its manifest.json lacks 'species'");
  return m;
}

namespace {
const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotate(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

void block(uint32_t h[8], const unsigned char *p) {
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++)
    w[i] = uint32_t(p[4 * i]) << 24 | uint32_t(p[4 * i + 1]) << 16 | uint32_t(p[4 * i + 2]) << 8 |
        p[4 * i + 3];
  for (int i = 16; i < 64; i++)
    w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3)) +
        w[i - 7] + (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10));
  for (int i = 0; i < 8; i++) v[i] = h[i];
  for (int i = 0; i < 64; i++) {
    const uint32_t t1 = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) +
        ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
    const uint32_t t2 = (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) +
        ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    for (int j = 7; j > 0; j--) v[j] = v[j - 1];
    v[4] += t1;
    v[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) h[i] += v[i];
}
}  // namespace

std::string sha256(const std::string &bytes) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const auto *data = reinterpret_cast<const unsigned char *>(bytes.data());
  const size_t whole = bytes.size() / 64 * 64;
  for (size_t i = 0; i < whole; i += 64) block(h, data + i);
  std::string tail = bytes.substr(whole);
  tail += char(0x80);
  while (tail.size() % 64 != 56) tail += char(0);
  for (int i = 7; i >= 0; i--) tail += char((uint64_t(bytes.size()) * 8) >> (8 * i));
  for (size_t i = 0; i < tail.size(); i += 64)
    block(h, reinterpret_cast<const unsigned char *>(tail.data()) + i);
  std::string out;
  for (uint32_t word : h)
    for (int i = 28; i >= 0; i -= 4) out += "0123456789abcdef"[(word >> i) & 15];
  return out;
}

}  // namespace tpcalc
