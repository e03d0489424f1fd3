// Which columns a row of the table reads or writes.
#pragma once
#include <cstdint>

namespace tpcalc {

// One block of columns [height, channels] with a stride between its rows
struct Block {
  int64_t offset, stride, height, channels;
  bool operator==(const Block& b) const {
    return offset == b.offset && stride == b.stride && height == b.height && channels == b.channels;
  }
  bool overlaps(const Block& b) const {
    for (int64_t i = 0; i < height; i++)
      for (int64_t j = 0; j < b.height; j++) {
        const int64_t x = offset + i * stride, y = b.offset + j * b.stride;
        if (x < y + b.channels && y < x + channels) return true;
      }
    return false;
  }
};

}  // namespace tpcalc
