// Fibers: call stacks, each of which hands the processor to another explicitly.
#pragma once

#include <cstddef>
#include <vector>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace cuda_emulator {

// A fiber runs from resume(), which the host calls, until suspend() or
// finish(), which the fiber itself calls. The address sanitizer and the thread
// sanitizer know of the switches; for the thread sanitizer fibers are as
// unordered as the threads of a GPU.
class Fiber {
 public:
  using Entry = void (*)();

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next resume() call `entry`. What the host has done so far comes
  // before it.
  void rewind(Entry entry);
  void resume();
  void suspend() { switch_context(context_, host_); }
  // Ends the fiber. What it has done comes before what the host does next.
  void finish();

  // Orders memory: what each fiber has done comes before what any of them will
  // do.
  static void order(const std::vector<Fiber*>& fibers);

 private:
  struct Context {
#ifdef __x86_64__
    void* stack_pointer;
#else
    ucontext_t registers;
#endif
    char* stack;  // the lowest address
    std::size_t stack_bytes;
    void* asan_fake_stack;
    void* tsan_fiber;
  };

  static void enter();
  static void switch_context(Context& from, Context& to, bool for_good = false);
  void prepare_registers(char* top);

  static Context host_;
  static Fiber* running_;
  Context context_{};
  Entry entry_ = nullptr;
  bool finished_ = false;
};

}  // namespace cuda_emulator
