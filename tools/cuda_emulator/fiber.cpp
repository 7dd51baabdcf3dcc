#include "fiber.h"

#include <sanitizer/asan_interface.h>
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>

#include <new>

// These functions are null unless the program contains the sanitizer.
#pragma weak __sanitizer_start_switch_fiber
#pragma weak __sanitizer_finish_switch_fiber
#pragma weak __asan_unpoison_memory_region
#pragma weak __tsan_get_current_fiber
#pragma weak __tsan_create_fiber
#pragma weak __tsan_destroy_fiber
#pragma weak __tsan_switch_to_fiber
#pragma weak __tsan_acquire
#pragma weak __tsan_release

namespace cuda_emulator {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kStackBytes = 64 * kPageBytes;

bool has_asan() { return __sanitizer_start_switch_fiber != nullptr; }
bool has_tsan() { return __tsan_switch_to_fiber != nullptr; }

void switch_tsan(void* fiber) {
  __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync);
}

}  // namespace

Fiber::Context Fiber::host_{};
Fiber* Fiber::running_ = nullptr;

#ifdef __x86_64__

// swapcontext() would make a system call, which takes longer.
__attribute__((naked, noinline)) static void switch_stack(
    void** /*rdi: saves*/, void* /*rsi: loads*/) {
  asm(R"(
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
  )");
}

void Fiber::prepare_registers(char* top) {
  constexpr int kSavedRegisters = 6;
  auto* frame = reinterpret_cast<Entry*>(top);
  *--frame = nullptr;  // enter() does not return
  *--frame = &enter;
  for (int i = 0; i < kSavedRegisters; ++i) *--frame = nullptr;
  context_.stack_pointer = frame;
}

#else

void Fiber::prepare_registers(char* top) {
  getcontext(&context_.registers);
  context_.registers.uc_stack.ss_sp = context_.stack;
  context_.registers.uc_stack.ss_size = top - context_.stack;
  makecontext(&context_.registers, &enter, 0);
}

#endif

Fiber::Fiber() {
  // The lowest page stays inaccessible, so that an overflow is an error.
  void* pages = mmap(nullptr, kPageBytes + kStackBytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  context_.stack = static_cast<char*>(pages) + kPageBytes;
  context_.stack_bytes = kStackBytes;
  mprotect(context_.stack, kStackBytes, PROT_READ | PROT_WRITE);
  if (has_tsan()) context_.tsan_fiber = __tsan_create_fiber(0);
}

Fiber::~Fiber() {
  if (has_asan()) __asan_unpoison_memory_region(context_.stack, kStackBytes);
  if (has_tsan()) __tsan_destroy_fiber(context_.tsan_fiber);
  munmap(context_.stack - kPageBytes, kPageBytes + kStackBytes);
}

void Fiber::rewind(Entry entry) {
  entry_ = entry;
  finished_ = false;
  prepare_registers(context_.stack + kStackBytes);
  if (has_tsan()) __tsan_release(this);
}

void Fiber::enter() {
  if (has_asan()) {
    const void* stack = nullptr;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &host_.stack_bytes);
    host_.stack = const_cast<char*>(static_cast<const char*>(stack));
  }
  if (has_tsan()) __tsan_acquire(running_);
  running_->entry_();
  running_->finish();
}

void Fiber::resume() {
  running_ = this;
  if (has_tsan()) host_.tsan_fiber = __tsan_get_current_fiber();
  switch_context(host_, context_);
  if (has_tsan() && finished_) __tsan_acquire(this);
}

void Fiber::finish() {
  finished_ = true;
  if (has_tsan()) __tsan_release(this);
  switch_context(context_, host_, /*for_good=*/true);
}

void Fiber::switch_context(Context& from, Context& to, bool for_good) {
  if (has_asan()) {
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.asan_fake_stack,
                                   to.stack, to.stack_bytes);
  }
  if (has_tsan()) switch_tsan(to.tsan_fiber);
#ifdef __x86_64__
  switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.registers, &to.registers);
#endif
  if (has_asan()) {
    __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
  }
}

void Fiber::order(const std::vector<Fiber*>& fibers) {
  if (!has_tsan()) return;
  void* caller = __tsan_get_current_fiber();
  for (const auto act : {__tsan_release, __tsan_acquire}) {
    for (const Fiber* fiber : fibers) {
      switch_tsan(fiber->context_.tsan_fiber);
      act(fibers.front());
    }
  }
  switch_tsan(caller);
}

}  // namespace cuda_emulator
