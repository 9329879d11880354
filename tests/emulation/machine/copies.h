// Copies behind the threads' backs. They complete at a seeded later time, in any order, as late as
// when nothing else can go on: whoever reads before waiting finds NaN.
#ifndef GSPN2_EMULATION_COPIES_H_
#define GSPN2_EMULATION_COPIES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "random.h"
#include "tensor_map.h"

namespace emulation {

struct Cluster;
struct Fiber;
class Machine;

// A thread's 16-byte copies up to an arrival that waits for them.
struct CopyBatch {
  int outstanding;
  uint32_t barrier;  // 0 until the arrival
};

struct CopyQueue {
  uint32_t first = 0;  // the number of batches[0]
  std::vector<CopyBatch> batches;
};

struct Transfer {
  enum class Kind : uint8_t { kChunk, kLoad, kRemote };
  Kind kind;
  bool late;  // not before the machine is idle, but for exceptions
  int bytes;
  uint32_t number;  // of the batch
  uint32_t target, barrier;
  Fiber* fiber;  // that began it
  void* memory;  // the target
  const void* source;
  uint32_t value[4];
  std::unique_ptr<TileCopy> tile;
};

class CopyEngine {
 public:
  CopyEngine(Machine& machine, Random& random);

  bool empty() const { return mPending.empty(); }
  void begin(Transfer transfer);
  // Completes one now and then.
  void tick() {
    if (!mPending.empty() && mRandom.once(mEvery)) completeOne(mRandom.once(kLateExceptions));
  }
  // Completes any one; false for a late one unless `evenLate`.
  void completeOne(bool evenLate);
  // The thread whose copy is completing, or null.
  const Fiber* active() const { return mActive; }

 private:
  static constexpr uint32_t kLateExceptions = 32;

  void complete(Transfer& transfer);
  void completeChunk(Transfer& transfer);

  Machine& mMachine;
  Random& mRandom;
  std::vector<Transfer> mPending;
  const Fiber* mActive = nullptr;
  uint32_t mEvery;  // ticks to a completion
  uint32_t mEager;  // one in so many completes at once
  uint32_t mLate;   // one in so many is late
};

}  // namespace emulation
#endif  // GSPN2_EMULATION_COPIES_H_
