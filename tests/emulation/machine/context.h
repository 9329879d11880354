// Stacks and the switch between them.
#ifndef GSPN2_EMULATION_CONTEXT_H_
#define GSPN2_EMULATION_CONTEXT_H_

#include <cstddef>

#include "device.h"

#if !defined(__x86_64__) || defined(GSPN2_EMULATION_UCONTEXT)
#include <ucontext.h>
#define GSPN2_EMULATION_PORTABLE 1
#endif

namespace emulation {

// A suspended flow of control.
struct Context {
#ifdef GSPN2_EMULATION_PORTABLE
  ucontext_t state;
#else
  void* stackPointer;
#endif
  void* stack;  // of the address sanitizer: the lowest byte and the size
  size_t stackBytes;
};

// Makes `context` start `entry` on the stack of `bytes` bytes when it is switched to. `entry` must
// not return. `colour` spreads the stacks' tops over the caches' sets.
GSPN2_EMULATION_HIDDEN void prepareContext(Context& context, void* stack, size_t bytes,
                                           unsigned colour, void (*entry)());
// Suspends the running flow into `from` and resumes `to`. `ends`: `from` is not resumed again.
GSPN2_EMULATION_HIDDEN void switchContext(Context& from, Context& to, bool ends = false);
// To be called first wherever a switch arrives for the first time.
GSPN2_EMULATION_HIDDEN void arriveInContext();

// The context of this OS thread's own stack, to be switched away from.
GSPN2_EMULATION_HIDDEN Context nativeContext();

// A stack between two pages that may not be touched.
GSPN2_EMULATION_HIDDEN void* allocateStack(size_t bytes);
GSPN2_EMULATION_HIDDEN void freeStack(void* stack, size_t bytes);

}  // namespace emulation
#endif  // GSPN2_EMULATION_CONTEXT_H_
