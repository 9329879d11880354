// The emulated machine: the threads, warps, blocks and clusters of a launch, and who runs next.
#ifndef GSPN2_EMULATION_MACHINE_H_
#define GSPN2_EMULATION_MACHINE_H_

#include <csetjmp>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "context.h"
#include "copies.h"
#include "device.h"
#include "random.h"
#include "segment.h"

namespace emulation {

constexpr int kLanes = 32;
constexpr int kNamedBarriers = 16;
constexpr size_t kStackBytes = 64 * 1024;

struct Block;
struct Cluster;
struct Warp;

// What a thread is doing.
enum class State : uint8_t {
  kRunnable,
  kInWarp,     // waits for lanes of its warp
  kInBlock,    // waits at a barrier of the block
  kInCluster,  // waits at the cluster's barrier
  kAtBarrier,  // waits for a phase of an mbarrier
  kAtWord,     // waits for a word's number
  kExited
};

struct Fiber {
  uint3 thread, blockIndex;
  Context context;
  Block* block;
  Warp* warp;
  int lane;
  State state;
  int barrier;               // kInBlock: its number
  uint32_t address, parity;  // kAtBarrier
  uint64_t result;           // of the last operation among lanes
  bool arrivedInCluster;
  uint32_t clusterPhase;  // in which it arrived
  CopyQueue copies;
  void* stack;
};

// Lanes that meet: a mere barrier, a shuffle, a ballot, or matrices that all lanes hold.
struct Meeting {
  enum class Kind : uint8_t { kSync, kShuffle, kBallot, kMatrices, kProduct };
  Kind kind;
  uint32_t mask, arrived;
  uint64_t values[kLanes];
  int sources[kLanes];
};

struct Warp {
  Block* block;
  int index;
  uint32_t live;   // lanes that have not exited
  uint32_t ready;  // lanes that can run
  uint32_t place;  // in the machine's list of ready warps
  uint32_t turn;   // the lane that goes first
  Fiber* lanes[kLanes];
  std::vector<Meeting> meetings;
};

// bar.sync: whole warps meet.
struct NamedBarrier {
  int threads;        // that it waits for; 0: every one of the block
  int lanes;          // that have arrived
  int completeWarps;  // all of whose live lanes have arrived
  std::vector<uint32_t> arrived;
};

// At the same place in every block, as the compiler would have it.
struct StaticObject {
  const void* key;
  size_t offset;  // from the segment's base
};

struct Block {
  Cluster* cluster;
  uint32_t rank, slot;
  Segment* segment;
  int live;  // threads that have not exited
  int liveWarps;
  std::vector<Warp> warps;
  NamedBarrier barriers[kNamedBarriers];
  std::unordered_map<uint32_t, std::vector<Fiber*>> waiting;  // at mbarriers, by address
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  int live;       // threads that have not exited
  int arrived;    // threads at the cluster's barrier in this phase
  int transfers;  // copies under way
  uint32_t phase;
  std::vector<Fiber*> waiting;
};

// What to run.
struct Launch {
  uint3 grid, block;
  int computeCapability;  // major * 10 + minor
  unsigned clusterBlocks;
  size_t dynamicBytes;
  unsigned residentClusters;  // the most that the device holds at once
  std::string kernel;
  void (*run)(const void*);
  const void* body;
};

class Machine {
 public:
  Machine(const Launch& launch, uint64_t seed);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // True where every thread has run to its end; else message() says why not.
  bool run();
  const std::string& message() const { return mMessage; }
  [[noreturn]] void abort(std::string message);

  Fiber* current() const { return mCurrent; }
  Random& random() { return mRandom; }
  CopyEngine& engine() { return mEngine; }
  const Launch& launch() const { return mLaunch; }

  // The running thread waits until another makes it ready.
  void suspend(State state);
  void makeReady(Fiber* fiber);
  // Lets others go first; the running thread stays ready.
  void yield();
  // Ends the running thread; does not return.
  [[noreturn]] void exit();
  // A copy that a thread of the cluster began has ended.
  void endTransfer(Cluster* cluster);
  // The block whose shared memory the address is in, or null.
  Block* blockOf(uint32_t address) const;
  // The offset of the object for `key` in every block's segment.
  size_t staticOffset(const void* key, size_t bytes, size_t alignment);
  sigjmp_buf& escape() { return mEscape; }

 private:
  void startCluster();
  void retireClusters();
  void startFiber(Block* block, unsigned thread);
  Fiber* pick();
  Warp* pickWarp();
  uint64_t priority(const Warp* warp) const;
  bool idle();
  void enter(Fiber* fiber);
  void switchToNext(bool ends);

  const Launch& mLaunch;
  Random mRandom;
  CopyEngine mEngine;
  Context mHome;
  sigjmp_buf mEscape;
  std::string mMessage;

  std::vector<std::unique_ptr<Cluster>> mClusters;  // resident
  std::vector<Block*> mSlots;                       // by number; the first one is none
  std::vector<uint32_t> mFreeSlots;
  std::vector<StaticObject> mStaticObjects;
  size_t mStaticEnd = kReservedBytes;
  std::vector<Warp*> mReady;
  Fiber* mCurrent = nullptr;
  Warp* mWarp = nullptr;
  uint64_t mNextCluster = 0, mClusterCount = 0;
  unsigned mTarget = 1;  // clusters to keep resident
  bool mClusterEnded = false;
  bool mPriorities, mBlocksFirst;
  uint64_t mSalt;
  uint32_t mKeep;  // a warp is left once in this many times while it can go on
};

// Fails where the launch's device is older than compute capability 9.0.
void requireHopper(const char* what);
void leaveMeetings(Fiber* fiber);
// All lanes of a warp give the addresses of what they hold, for one of the two below.
void meetForMatrices(Meeting::Kind kind, void* operands);
void finishMatrices(const uint64_t (&lanes)[kLanes]);
void finishProduct(const uint64_t (&lanes)[kLanes]);
// "block 3, warp 1, lane 0"
std::string nameOf(const Fiber* fiber);
// What every thread of the clusters waits for, lanes of a warp together.
std::string describeThreads(const std::vector<std::unique_ptr<Cluster>>& clusters);

// The machine that runs, or null.
GSPN2_EMULATION_HIDDEN extern Machine* gMachine;

}  // namespace emulation
#endif  // GSPN2_EMULATION_MACHINE_H_
