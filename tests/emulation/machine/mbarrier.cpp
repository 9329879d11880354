#include "mbarrier.h"

#include <cstdio>
#include <cstring>

#include "machine.h"

namespace emulation {
namespace {

constexpr int64_t kMaxCount = (1 << 20) - 1;  // of arrivals and, either way, of bytes
constexpr uint64_t kTag = 2;                  // neither poison nor zeros

// The 8 bytes in shared memory: tag 2, phase 1, bytes 21 (biased), pending 20, expected 20.
struct Barrier {
  uint64_t tag;
  uint32_t parity;
  int64_t bytes;  // announced but not landed; negative: the other way round
  int64_t pending, expected;
};

char* memoryAt(uint32_t address) {
  Block* const block = gMachine->blockOf(address);
  const uint32_t offset = address & ((1U << kSlotShift) - 1);
  if (block == nullptr || address % 8 != 0 || !block->segment->owns(offset, 8)) {
    fail("no barrier can be at the shared address %#x", address);
  }
  return block->segment->base() + offset;
}

Barrier load(uint32_t address) {
  uint64_t word;
  std::memcpy(&word, memoryAt(address), sizeof(word));
  Barrier barrier{};
  barrier.tag = word >> 62;
  barrier.parity = static_cast<uint32_t>(word >> 61 & 1);
  barrier.bytes = static_cast<int64_t>(word >> 40 & 0x1fffff) - kMaxCount;
  barrier.pending = static_cast<int64_t>(word >> 20 & 0xfffff);
  barrier.expected = static_cast<int64_t>(word & 0xfffff);
  return barrier;
}

Barrier loadValid(uint32_t address) {
  const Barrier barrier = load(address);
  if (barrier.tag != kTag || barrier.expected == 0) {
    fail("the barrier at the shared address %#x is not initialised", address);
  }
  return barrier;
}

void store(uint32_t address, const Barrier& barrier) {
  if (barrier.bytes > kMaxCount || barrier.bytes < -kMaxCount) {
    fail("the barrier at %#x counts %lld bytes; at most %lld are possible", address,
         static_cast<long long>(barrier.bytes), static_cast<long long>(kMaxCount));
  }
  const uint64_t word = barrier.tag << 62 | static_cast<uint64_t>(barrier.parity) << 61 |
                        static_cast<uint64_t>(barrier.bytes + kMaxCount) << 40 |
                        static_cast<uint64_t>(barrier.pending) << 20 |
                        static_cast<uint64_t>(barrier.expected);
  std::memcpy(memoryAt(address), &word, sizeof(word));
}

// Lets those go on that wait at the address.
void wake(uint32_t address) {
  auto& waiting = gMachine->blockOf(address)->waiting;
  const auto found = waiting.find(address);
  if (found == waiting.end()) return;
  for (Fiber* fiber : found->second) gMachine->makeReady(fiber);
  found->second.clear();
}

// Stores the barrier and, if its phase is over, begins the next one.
void settle(uint32_t address, Barrier barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) {
    store(address, barrier);
    return;
  }
  barrier.parity ^= 1;
  barrier.pending = barrier.expected;
  store(address, barrier);
  wake(address);
}

}  // namespace

void* clusterShared(uint32_t address, size_t bytes) {
  Block* const block = gMachine->blockOf(address);
  if (block == nullptr || block->cluster != gMachine->current()->block->cluster) {
    fail("the shared address %#x is in no block of this cluster", address);
  }
  const uint32_t offset = address & ((1U << kSlotShift) - 1);
  if (address % bytes != 0 || !block->segment->owns(offset, bytes)) {
    fail("%zu bytes at the shared address %#x are misaligned or nobody's", bytes, address);
  }
  return block->segment->base() + offset;
}

void checkBarrier(uint32_t address) { loadValid(address); }

void arrive(uint32_t address, uint32_t expectedBytes) {
  Barrier barrier = loadValid(address);
  if (barrier.pending == 0) {
    fail("an arrival too many at the barrier at %#x: %lld were announced", address,
         static_cast<long long>(barrier.expected));
  }
  --barrier.pending;
  barrier.bytes += expectedBytes;
  settle(address, barrier);
}

void completeBytes(uint32_t address, int bytes) {
  Barrier barrier = loadValid(address);
  barrier.bytes -= bytes;
  settle(address, barrier);
}

std::string describeBarrier(uint32_t address) {
  const Barrier barrier = load(address);
  if (barrier.tag != kTag) return "not initialised";
  char text[128];
  std::snprintf(text, sizeof(text), "in phase %u, %lld of %lld arrivals and %lld bytes to come",
                barrier.parity, static_cast<long long>(barrier.pending),
                static_cast<long long>(barrier.expected), static_cast<long long>(barrier.bytes));
  return text;
}

// ---- what the kernels call ---------------------------------------------------------------------

void initBarrier(uint32_t address, uint32_t arrivals) {
  void* const memory = ownShared(address, 8);
  const auto& waiting = gMachine->current()->block->waiting;
  const auto found = waiting.find(address);
  if (found != waiting.end() && !found->second.empty()) {
    fail("the barrier at %#x is initialised while threads wait at it", address);
  }
  if (arrivals == 0 || arrivals > kMaxCount) fail("a barrier of %u arrivals", arrivals);
  std::memset(memory, 0, 8);
  store(address, {kTag, 0, 0, arrivals, arrivals});
  mayYield();
}

void arriveBarrier(uint32_t address) {
  ownShared(address, 8);
  mayYield();
  arrive(address, 0);
  mayYield();
}

void arriveBarrierExpecting(uint32_t address, uint32_t bytes) {
  requireHopper("mbarrier.arrive.expect_tx");
  ownShared(address, 8);
  mayYield();
  arrive(address, bytes);
  mayYield();
}

void waitBarrier(uint32_t address, uint32_t parity) {
  ownShared(address, 8);
  if (parity > 1) fail("a wait for the parity %u", parity);
  mayYield();
  Fiber* const self = gMachine->current();
  // Another phase may have ended before this thread's turn comes: then it waits on, as the
  // hardware might.
  while (loadValid(address).parity == parity) {
    self->address = address;
    self->parity = parity;
    self->block->waiting[address].push_back(self);
    gMachine->suspend(State::kAtBarrier);
  }
}

void storeWord(uint32_t address, uint32_t value, uint32_t number) {
  mayYield();
  const uint32_t word[2] = {value, number};
  std::memcpy(clusterShared(address, sizeof(word)), word, sizeof(word));
  wake(address);
  mayYield();
}

uint32_t awaitWord(uint32_t address, uint32_t number) {
  const void* const memory = ownShared(address, 8);
  mayYield();
  Fiber* const self = gMachine->current();
  for (;;) {
    uint32_t word[2];
    std::memcpy(word, memory, sizeof(word));
    if (word[1] == number) return word[0];
    self->address = address;
    self->block->waiting[address].push_back(self);
    gMachine->suspend(State::kAtWord);
  }
}

void storeWordGlobal(uint64_t* target, uint32_t value, uint32_t number) {
  checkAligned(target, sizeof(*target));
  mayYield();
  *target = static_cast<uint64_t>(number) << 32 | value;
  mayYield();
}

uint32_t awaitWordGlobal(const uint64_t* source, uint32_t number) {
  constexpr int kTurns = 100'000'000;
  checkAligned(source, sizeof(*source));
  mayYield();
  for (int turn = 0; turn < kTurns; ++turn) {
    const uint64_t word = *source;
    if (word >> 32 == number) return static_cast<uint32_t>(word);
    gMachine->yield();
  }
  fail("no word of number %u came", number);
}

}  // namespace emulation
