#include "context.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef GSPN2_EMULATION_PORTABLE
// Saves and restores what the System V ABI lets no callee change. swapcontext() would also ask the
// kernel for the signal mask each time.
asm(R"(
.text
.hidden gspn2_emulation_switch
.globl gspn2_emulation_switch
.type gspn2_emulation_switch, @function
gspn2_emulation_switch:
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
.size gspn2_emulation_switch, .-gspn2_emulation_switch
)");
extern "C" void gspn2_emulation_switch(void** from, void* to);
#endif

namespace emulation {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kColourBytes = 448;  // an odd number of cache lines
constexpr unsigned kColours = 16;

}  // namespace

void prepareContext(Context& context, void* stack, size_t bytes, unsigned colour, void (*entry)()) {
  context.stack = stack;
  context.stackBytes = bytes;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, bytes);  // the last thread on it left in mid-function
#endif
  const size_t usable = bytes - colour % kColours * kColourBytes;
#ifdef GSPN2_EMULATION_PORTABLE
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = usable;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
#else
  // Six registers, the entry, and the return address that the entry never uses: after the switch's
  // `ret` the stack pointer is 8 bytes past a multiple of 16, as after a call.
  auto** top = reinterpret_cast<void**>(static_cast<char*>(stack) + (usable & ~size_t{15}));
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stackPointer = top;
#endif
}

void switchContext(Context& from, Context& to, bool ends) {
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(ends ? nullptr : &fake, to.stack, to.stackBytes);
#else
  static_cast<void>(ends);
#endif
#ifdef GSPN2_EMULATION_PORTABLE
  swapcontext(&from.state, &to.state);
#else
  gspn2_emulation_switch(&from.stackPointer, to.stackPointer);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void arriveInContext() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

Context nativeContext() {
  Context context{};
#ifdef __SANITIZE_ADDRESS__
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &context.stack, &context.stackBytes);
  pthread_attr_destroy(&attributes);
#endif
  return context;
}

void* allocateStack(size_t bytes) {
  void* const whole = mmap(nullptr, bytes + 2 * kPageBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED) {
    std::perror("gspn2 emulation: no memory for a stack");
    std::abort();
  }
  char* const first = static_cast<char*>(whole);
  mprotect(first, kPageBytes, PROT_NONE);
  mprotect(first + kPageBytes + bytes, kPageBytes, PROT_NONE);
  return first + kPageBytes;
}

void freeStack(void* stack, size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, bytes);
#endif
  munmap(static_cast<char*>(stack) - kPageBytes, bytes + 2 * kPageBytes);
}

}  // namespace emulation
