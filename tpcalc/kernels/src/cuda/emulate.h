// CUDA's blocks and threads on the CPU, to test index arithmetic and barriers without a GPU. Each
// thread of a block is a coroutine that runs to the next barrier. Passes go through the threads
// upwards and downwards in turn, so that a missing barrier changes results; shared memory starts
// as NaN and has canaries behind it. For tests: slow.
#pragma once
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace tpcalc::cuda {

class Block {
 public:
  Block(unsigned threads, size_t shared_bytes)
      : fibers_(threads), stacks_(threads), shared_(shared_bytes + kCanary), bytes_(shared_bytes) {
    for (auto& stack : stacks_) stack.resize(kStack);
  }
  static Block*& current() {
    static thread_local Block* block = nullptr;
    return block;
  }
  unsigned char* shared() { return shared_.data(); }

  void run(const std::function<void()>& body) {
    body_ = &body;
    std::memset(shared_.data(), 0xff, shared_.size());  // NaN in both dtypes
    for (size_t t = 0; t < fibers_.size(); t++) start(t);
    for (bool up = true; pass(up); up = !up) {
    }
    for (size_t n = bytes_; n < shared_.size(); n++)
      if (shared_[n] != 0xff) fail("a thread wrote behind its shared memory");
  }
  void barrier() {
    Fiber& f = fibers_[running_];
    f.waits = true;
    swapcontext(&f.context, &scheduler_);
  }

 private:
  static constexpr size_t kStack = 64 << 10, kCanary = 256;
  struct Fiber {
    ucontext_t context;
    bool waits, done;
  };

  static void fail(const char* what) {
    std::fprintf(stderr, "CUDA emulation: %s\n", what);
    std::abort();
  }
  static void enter() {
    (*current()->body_)();
    current()->fibers_[current()->running_].done = true;
  }
  void start(size_t t) {
    Fiber& f = fibers_[t];
    f.waits = f.done = false;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stacks_[t].data();
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = &scheduler_;
    makecontext(&f.context, &Block::enter, 0);
  }
  // every thread to its next barrier or its end; false at the end of all
  bool pass(bool up) {
    size_t done = 0;
    const size_t n = fibers_.size();
    for (size_t k = 0; k < n; k++) {
      running_ = up ? k : n - 1 - k;
      fibers_[running_].waits = false;
      threadIdx = dim3(static_cast<unsigned>(running_), 0, 0);
      swapcontext(&scheduler_, &fibers_[running_].context);
      done += fibers_[running_].done;
    }
    if (done != 0 && done != n) fail("some threads of a block never reach a barrier");
    return done == 0;
  }

  std::vector<Fiber> fibers_;
  std::vector<std::vector<char>> stacks_;
  std::vector<unsigned char> shared_;
  size_t bytes_, running_ = 0;
  ucontext_t scheduler_;
  const std::function<void()>* body_ = nullptr;
};

inline unsigned char* shared_memory() { return Block::current()->shared(); }

template <class... P, class... A>
const char* launch(void (*kernel)(P...), dim3 grid, unsigned threads, size_t shared, void*,
                   const A&... arguments) {
  Block block(threads, shared);
  Block::current() = &block;
  gridDim = grid, blockDim = dim3(threads);
  const std::function<void()> body = [&] { kernel(arguments...); };
  for (unsigned y = 0; y < grid.y; y++)
    for (unsigned x = 0; x < grid.x; x++) {
      blockIdx = dim3(x, y, 0);
      block.run(body);
    }
  Block::current() = nullptr;
  return nullptr;
}

}  // namespace tpcalc::cuda

inline void __syncthreads() { tpcalc::cuda::Block::current()->barrier(); }
