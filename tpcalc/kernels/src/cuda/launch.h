// Launching a kernel: by CUDA, or by an emulation on the CPU that tests run.
#pragma once
#include <cstdint>

#if defined(TPCALC_EMULATE)
#include "emulate.h"
#else
#include <cuda_runtime.h>

namespace tpcalc::cuda {

template <class... P, class... A>
const char* launch(void (*kernel)(P...), dim3 grid, unsigned threads, size_t shared, void* stream,
                   const A&... arguments) {
  kernel<<<grid, threads, shared, static_cast<cudaStream_t>(stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
// The dynamic shared memory of the block
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char tpcalc_shared[];
  return tpcalc_shared;
}

}  // namespace tpcalc::cuda
#endif

namespace tpcalc::cuda {

inline unsigned blocks_for(int64_t n) { return static_cast<unsigned>(n < (1 << 30) ? n : 1 << 30); }

// a power of two from 32 on that covers the channels, as far as `most`
inline unsigned threads_for(int64_t channels, unsigned most) {
  unsigned threads = 32;
  while (threads < channels && threads < most) threads *= 2;
  return threads;
}

}  // namespace tpcalc::cuda
