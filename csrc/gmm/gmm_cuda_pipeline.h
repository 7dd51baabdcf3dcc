// Both passes at once, for samples with large mixtures of their own: blocks
// take parts of the forward pass of one sample and parts of the backward pass
// of another some way behind, which finds mu and scale in the second-level
// cache.
#pragma once

#include "gmm/gmm_cuda_both_passes.h"

namespace vtadl::gmm {

// Tasks come in rounds: the parts of the forward pass of sample `round`, some
// components each, then those of the backward pass of sample round - lead, some
// features each.
struct Pipeline {
  int64_t samples, forward_parts, backward_parts, lead;
  int64_t components;  // of a part of the forward pass

  VTADL_INLINE int64_t parts() const { return forward_parts + backward_parts; }
  VTADL_INLINE int64_t tasks() const { return (samples + lead) * parts(); }
};

// What the blocks tell each other, all 0 at first: how many tasks are taken,
// and of each sample how many parts of the forward pass are done, and one more
// when the weights of its components are known.
struct Progress {
  unsigned long long* taken;
  unsigned long long* done;

  explicit Progress(void* counters)
      : taken(static_cast<unsigned long long*>(counters)), done(taken + 1) {}
};

// Tasks are taken in order, and one waits only for some that come before it:
// these are done, or other blocks that run are at them.
class Tasks {
 public:
  __device__ explicit Tasks(const Progress& progress) : progress_(progress) {
    take();
  }

  // For all threads of the block; the following one is on its way then.
  __device__ int64_t next() {
    __shared__ unsigned long long task;
    __syncthreads();
    if (is_first()) task = next_;
    __syncthreads();
    take();
    return static_cast<int64_t>(task);
  }

  // Whether this block's part was the last of the sample's forward pass; then
  // its threads see what all blocks wrote for it.
  __device__ bool completes(int64_t n, int64_t parts) const {
    __shared__ bool is_last;
    __syncthreads();
    if (is_first()) {
      __threadfence();
      is_last = atomicAdd(progress_.done + n, 1ull) + 1 ==
                static_cast<unsigned long long>(parts);
      __threadfence();
    }
    __syncthreads();
    return is_last;
  }

  // By the first warp.
  __device__ void announce(int64_t n) const {
    __syncwarp();
    if (!is_first()) return;
    __threadfence();
    atomicAdd(progress_.done + n, 1ull);
  }

  __device__ void wait_for(int64_t n, int64_t parts) const {
    if (is_first()) {
      const volatile auto* done = progress_.done + n;
      while (*done <= static_cast<unsigned long long>(parts)) {
      }
      __threadfence();
    }
    __syncthreads();
  }

 private:
  __device__ static bool is_first() {
    return threadIdx.x == 0 && threadIdx.y == 0;
  }
  __device__ void take() {
    if (is_first()) next_ = atomicAdd(progress_.taken, 1ull);
  }

  const Progress progress_;
  unsigned long long next_ = 0;
};

// Moves 4 U + 4 N·K elements. 3/8 of the threads that a multiprocessor holds,
// or 1/4 where a thread works on 8 elements.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kBothPassesBlocks<Scalar>)
    pipeline_kernel(GmmForwardBackward p, PrivateGrads<Scalar> grads,
                    Pipeline pipeline, Progress progress, int width,
                    Floor<T> floor) {
  const int64_t parts = pipeline.forward_parts;
  Tasks tasks(progress);
  for (int64_t task = tasks.next(); task < pipeline.tasks();
       task = tasks.next()) {
    const int64_t round = task / pipeline.parts();
    const int64_t part = task % pipeline.parts();
    const int64_t behind = round - pipeline.lead;
    if (part < parts && round < pipeline.samples) {
      const int64_t first = part * pipeline.components;
      log_normals_of_block<Scalar, kPack>(
          p.forward, round, first,
          smaller(first + pipeline.components, p.forward.components), width,
          floor);
      if (tasks.completes(round, parts) && thread_of_block() < kWarp) {
        mix_and_weigh<Scalar>(p, round);
        tasks.announce(round);
      }
    } else if (part >= parts && behind >= 0) {
      tasks.wait_for(behind, parts);
      const int64_t d = ((part - parts) * blockDim.x + threadIdx.x) * kPack;
      backward_of_features<Scalar, kPack, Store::kStreamed>(
          p.backward, grads, behind, d, d < p.backward.features, floor);
    }
  }
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
bool fits_pipeline(const GmmProblem& p) {
  constexpr int64_t kMostInCache = 1024;  // of smaller ones other kernels make
                                          // as much, in fewer tasks
  return sizeof(Scalar) < sizeof(double) && p.mixture != Mixture::kNone &&
         p.mu.rows.repeats == 1 && p.scale.rows.repeats == 1 &&
         kMostInCache * bytes_of_sample(p, sizeof(Scalar)) >=
             usable_cache_bytes();
}

// `columns` of a sample's features are 16 bytes wide each, and a block takes x
// of these.
inline Pipeline make_pipeline(const GmmProblem& p, int64_t columns, int x,
                              int width, int64_t blocks) {
  // Rounds that pass while the last part of a sample is mixed.
  constexpr int64_t kMixing = 20;
  Pipeline pipeline{};
  pipeline.samples = p.samples;
  pipeline.components = kBlock / width;
  pipeline.forward_parts = divide_up(p.components, pipeline.components);
  pipeline.backward_parts = divide_up(columns, x);
  pipeline.lead = divide_up(blocks, pipeline.parts()) + kMixing;
  return pipeline;
}

template <typename Scalar>
void pipelined_passes(const GmmForwardBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const GmmBackward& q = p.backward;
  const PrivateGrads<Scalar> grads(q);
  check_cuda(cudaMemsetAsync(p.counters, 0, sizeof(int64_t) * (q.samples + 1),
                             static_cast<cudaStream_t>(stream)),
             "gmm pipeline_kernel");
  const bool packed = packs<Scalar>(
      q, {q.x, q.mu.data, q.scale.data, q.grad_x, grads.mu, grads.scale});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    constexpr int kColumns = 128 / int(sizeof(Scalar)) / kPack;  // 128 bytes
    const int64_t columns = divide_up(q.features, kPack);
    const int width = power_of_two(columns, kWarp);
    const int x = power_of_two(columns, kColumns);
    const int64_t blocks = kBothPassesBlocks<Scalar> * multiprocessors();
    const Pipeline pipeline = make_pipeline(q, columns, x, width, blocks);
    launch("gmm pipeline_kernel", pipeline_kernel<Scalar, kPack>,
           {grid_size(std::min(blocks, pipeline.tasks())), dim3(x, kBlock / x),
            sizeof(T) * kPack * kBlock},
           stream, p, grads, pipeline, Progress(p.counters), width,
           Floor<T>(q.min_std));
  });
}

}  // namespace vtadl::gmm
