#include "fiber.h"

#include <sanitizer/common_interface_defs.h>
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifndef __x86_64__
#include <ucontext.h>
#endif

// Null unless the program contains the sanitizer's runtime.
#pragma weak __sanitizer_start_switch_fiber
#pragma weak __sanitizer_finish_switch_fiber
#pragma weak __asan_unpoison_memory_region
#pragma weak __tsan_get_current_fiber
#pragma weak __tsan_create_fiber
#pragma weak __tsan_destroy_fiber
#pragma weak __tsan_switch_to_fiber
#pragma weak __tsan_acquire
#pragma weak __tsan_release
extern "C" void __asan_unpoison_memory_region(const volatile void*,
                                              std::size_t);

namespace cuda_emulator {

struct Context {
  const void* stack = nullptr;  // lowest address
  std::size_t stack_bytes = 0;
  void* asan_fake_stack = nullptr;
  void* tsan_fiber = nullptr;
#ifdef __x86_64__
  void* stack_pointer = nullptr;
#else
  ucontext_t registers;
#endif
};

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kStackBytes = 64 * kPageBytes;

Context host;
Fiber* running = nullptr;

#ifdef __x86_64__

// swapcontext() would make a system call, and so cost fifty times as much.
__attribute__((naked, noinline)) void switch_stack(void** /*rdi: saved*/,
                                                   void* /*rsi: loaded*/) {
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

void switch_registers(Context& from, Context& to) {
  switch_stack(&from.stack_pointer, to.stack_pointer);
}

void prepare_registers(Context& context, void* top, Fiber::Entry entry) {
  constexpr int kSavedRegisters = 6;
  auto* frame = static_cast<Fiber::Entry*>(top);
  *--frame = nullptr;  // where entry would return to
  *--frame = entry;
  for (int i = 0; i < kSavedRegisters; ++i) *--frame = nullptr;
  context.stack_pointer = frame;
}

#else

void switch_registers(Context& from, Context& to) {
  swapcontext(&from.registers, &to.registers);
}

void prepare_registers(Context& context, void* /*top*/, Fiber::Entry entry) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = const_cast<void*>(context.stack);
  context.registers.uc_stack.ss_size = context.stack_bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}

#endif

void switch_context(Context& from, Context& to, bool for_good = false) {
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.asan_fake_stack,
                                   to.stack, to.stack_bytes);
  }
  if (__tsan_switch_to_fiber != nullptr) {
    __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
  }
  switch_registers(from, to);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
  }
}

void tsan_acquire(void* address) {
  if (__tsan_acquire != nullptr) __tsan_acquire(address);
}

void tsan_release(void* address) {
  if (__tsan_release != nullptr) __tsan_release(address);
}

}  // namespace

Fiber::Fiber() : context_(new Context) {
  // The lowest page stays inaccessible, so that an overflow shows.
  void* pages = mmap(nullptr, kPageBytes + kStackBytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  char* stack = static_cast<char*>(pages) + kPageBytes;
  if (mprotect(stack, kStackBytes, PROT_READ | PROT_WRITE) != 0) {
    throw std::bad_alloc();
  }
  context_->stack = stack;
  context_->stack_bytes = kStackBytes;
  if (__tsan_create_fiber != nullptr) {
    context_->tsan_fiber = __tsan_create_fiber(0);
  }
}

Fiber::~Fiber() {
  if (__asan_unpoison_memory_region != nullptr) {
    __asan_unpoison_memory_region(context_->stack, kStackBytes);
  }
  if (__tsan_destroy_fiber != nullptr) {
    __tsan_destroy_fiber(context_->tsan_fiber);
  }
  const char* stack = static_cast<const char*>(context_->stack);
  munmap(const_cast<char*>(stack - kPageBytes), kPageBytes + kStackBytes);
  delete context_;
}

void Fiber::rewind(Entry entry) {
  entry_ = entry;
  finished_ = false;
  const char* top = static_cast<const char*>(context_->stack) + kStackBytes;
  prepare_registers(*context_, const_cast<char*>(top), &Fiber::enter);
  tsan_release(this);
}

void Fiber::enter() {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, &host.stack, &host.stack_bytes);
  }
  tsan_acquire(running);
  running->entry_();
  running->finish();
}

void Fiber::resume() {
  if (__tsan_get_current_fiber != nullptr) {
    host.tsan_fiber = __tsan_get_current_fiber();
  }
  running = this;
  switch_context(host, *context_);
  if (finished_) tsan_acquire(this);
}

void Fiber::suspend() { switch_context(*context_, host); }

void Fiber::finish() {
  finished_ = true;
  tsan_release(this);
  switch_context(*context_, host, /*for_good=*/true);
  __builtin_unreachable();
}

void Fiber::order(const std::vector<Fiber*>& fibers) {
  if (__tsan_switch_to_fiber == nullptr) return;
  void* caller = __tsan_get_current_fiber();
  const auto as_each = [&](void (*act)(void*)) {
    for (Fiber* fiber : fibers) {
      __tsan_switch_to_fiber(fiber->context_->tsan_fiber,
                             __tsan_switch_to_fiber_no_sync);
      act(fibers.front());
    }
  };
  as_each(tsan_release);
  as_each(tsan_acquire);
  __tsan_switch_to_fiber(caller, __tsan_switch_to_fiber_no_sync);
}

}  // namespace cuda_emulator
