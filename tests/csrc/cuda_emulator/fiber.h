// Fibers: call stacks that hand the processor to each other by name.
#pragma once

#include <cstddef>
#include <vector>

namespace cuda_emulator {

struct Context;

// Runs from resume(), which the host calls, until suspend() or finish(), which
// the fiber itself calls. The address and the thread sanitizer follow; to the
// latter, fibers are as unordered as the threads of a card.
class Fiber {
 public:
  using Entry = void (*)();

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void rewind(Entry entry);  // resume() will call entry, after the host's past
  void resume();
  void suspend();
  [[noreturn]] void finish();  // the host's future comes after this

  // What each fiber has done comes before what any of them will do.
  static void order(const std::vector<Fiber*>& fibers);

 private:
  static void enter();

  Context* context_;
  Entry entry_ = nullptr;
  bool finished_ = false;
};

}  // namespace cuda_emulator
