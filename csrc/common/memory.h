// Memory of the CPU kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/host_device.h"

namespace vtadl {

// Allocates memory aligned to 64 bytes, or throws std::bad_alloc.
void* allocate(std::size_t bytes);
void release(void* memory);

// Tells the system that large pages suit this memory, which is about to be
// written for the first time. Large pages cost a fraction of the page faults.
void prefer_large_pages(void* memory, std::size_t bytes);

// Uninitialised memory to work in, released at the end of the scope.
template <typename T>
class Scratch {
 public:
  VTADL_HOST_INLINE explicit Scratch(std::int64_t count)
      : data_(static_cast<T*>(allocate(count * sizeof(T)))) {}
  VTADL_HOST_INLINE ~Scratch() { release(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  VTADL_HOST_INLINE T* get() const { return data_; }
  VTADL_HOST_INLINE operator T*() const { return data_; }
  VTADL_HOST_INLINE T* operator->() const { return data_; }

 private:
  T* const data_;
};

}  // namespace vtadl
