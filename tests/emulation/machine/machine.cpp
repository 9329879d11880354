#include "machine.h"

#include <algorithm>
#include <utility>

#include "mbarrier.h"

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

Machine* gMachine = nullptr;

namespace {

constexpr unsigned kMaxFibers = 8192;     // to keep resident without need
constexpr size_t kSpareFibers = 2048;     // a process may have some 30,000 stacks and their guards
constexpr uint32_t kAnyWarp = 32;         // choices by priority to one at random
constexpr uint32_t kNewPriorities = 256;  // choices of a warp to new priorities

// Threads and shared memory of launches past, for those to come.
std::vector<Fiber*> gSpareFibers;
std::vector<Segment*> gSpareSegments;
unsigned gFibers = 0;

Fiber* takeFiber() {
  if (gSpareFibers.empty()) {
    auto* const fiber = new Fiber();
    fiber->stack = allocateStack(kStackBytes);
    ++gFibers;
    return fiber;
  }
  Fiber* const fiber = gSpareFibers.back();
  gSpareFibers.pop_back();
  return fiber;
}

Segment* takeSegment(size_t dynamicBytes) {
  if (!gSpareSegments.empty() && gSpareSegments.back()->dynamicBytes() != dynamicBytes) {
    for (const Segment* spare : gSpareSegments) delete spare;
    gSpareSegments.clear();
  }
  if (gSpareSegments.empty()) return new Segment(dynamicBytes);
  Segment* const segment = gSpareSegments.back();
  gSpareSegments.pop_back();
  return segment;
}

void giveBack(Cluster& cluster) {
  for (const auto& block : cluster.blocks) {
    for (const Warp& warp : block->warps) {
      for (Fiber* fiber : warp.lanes) {
        if (fiber != nullptr) gSpareFibers.push_back(fiber);
      }
    }
    gSpareSegments.push_back(block->segment);
  }
}

void trimSpares() {
  while (gSpareFibers.size() > kSpareFibers) {
    freeStack(gSpareFibers.back()->stack, kStackBytes);
    delete gSpareFibers.back();
    gSpareFibers.pop_back();
    --gFibers;
  }
}

void runThread() {
  arriveInContext();
  const Launch& launch = gMachine->launch();
  launch.run(launch.body);
  gMachine->exit();
}

}  // namespace

Machine::Machine(const Launch& launch, uint64_t seed)
    : mLaunch(launch),
      mRandom(seed),
      mEngine(*this, mRandom),
      mHome(nativeContext()),
      mSlots(1, nullptr) {
  const unsigned blocks = launch.clusterBlocks;
  const uint64_t threads = uint64_t{blocks} * launch.block.x * launch.block.y * launch.block.z;
  mClusterCount = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z / blocks;
  const auto most = static_cast<unsigned>(std::max<uint64_t>(kMaxFibers / threads, 1));
  mTarget = std::min({1 + mRandom.below(4), most, launch.residentClusters});
  mPriorities = mRandom.once(2);
  mBlocksFirst = mRandom.once(2);
  mSalt = mRandom.next();
  constexpr uint32_t kKeep[] = {4, 64, 1024};
  mKeep = kKeep[mRandom.below(3)];
}

Machine::~Machine() {
  for (const auto& cluster : mClusters) giveBack(*cluster);
  trimSpares();
}

bool Machine::run() {
  gMachine = this;
  blockDim = mLaunch.block;
  gridDim = mLaunch.grid;
  const bool ended = sigsetjmp(mEscape, 1) == 0;
  while (ended) {
    retireClusters();
    while (mClusters.size() < mTarget && mNextCluster < mClusterCount) startCluster();
    if (mClusters.empty()) break;
    Fiber* const next = pick();
    if (next == nullptr) continue;
    enter(next);
    switchContext(mHome, next->context);
  }
  gMachine = nullptr;
  return ended;
}

void Machine::abort(std::string message) {
  mMessage = std::move(message);
  siglongjmp(mEscape, 1);
}

// ---- clusters come and go ----------------------------------------------------------------------

void Machine::startCluster() {
  auto cluster = std::make_unique<Cluster>();
  const unsigned threads = mLaunch.block.x * mLaunch.block.y * mLaunch.block.z;
  cluster->live = static_cast<int>(threads * mLaunch.clusterBlocks);
  for (unsigned rank = 0; rank < mLaunch.clusterBlocks; ++rank) {
    auto owned = std::make_unique<Block>();
    Block* const block = owned.get();
    cluster->blocks.push_back(std::move(owned));
    block->cluster = cluster.get();
    block->rank = rank;
    block->segment = takeSegment(mLaunch.dynamicBytes);
    block->segment->reset(mStaticEnd);
    if (mFreeSlots.empty()) {
      mFreeSlots.push_back(static_cast<uint32_t>(mSlots.size()));
      mSlots.push_back(nullptr);
    }
    block->slot = mFreeSlots.back();
    mFreeSlots.pop_back();
    mSlots[block->slot] = block;
    block->live = static_cast<int>(threads);
    block->warps.resize((threads + kLanes - 1) / kLanes);
    block->liveWarps = static_cast<int>(block->warps.size());
    for (NamedBarrier& barrier : block->barriers) barrier.arrived.resize(block->warps.size());
    for (unsigned thread = 0; thread < threads; ++thread) startFiber(block, thread);
  }
  ++mNextCluster;
  mClusters.push_back(std::move(cluster));
}

void Machine::startFiber(Block* block, unsigned thread) {
  const uint3 extent = mLaunch.block;
  const uint64_t index = mNextCluster * mLaunch.clusterBlocks + block->rank;
  Warp& warp = block->warps[thread / kLanes];
  Fiber* const fiber = takeFiber();
  fiber->thread = {thread % extent.x, thread / extent.x % extent.y, thread / extent.x / extent.y};
  fiber->blockIndex = {static_cast<unsigned>(index % mLaunch.grid.x),
                       static_cast<unsigned>(index / mLaunch.grid.x % mLaunch.grid.y),
                       static_cast<unsigned>(index / mLaunch.grid.x / mLaunch.grid.y)};
  fiber->block = block;
  fiber->warp = &warp;
  fiber->lane = static_cast<int>(thread % kLanes);
  fiber->arrivedInCluster = false;
  fiber->copies.batches.clear();
  prepareContext(fiber->context, fiber->stack, kStackBytes, thread, runThread);
  warp.block = block;
  warp.index = static_cast<int>(thread / kLanes);
  warp.lanes[fiber->lane] = fiber;
  warp.live |= 1U << fiber->lane;
  makeReady(fiber);
}

void Machine::retireClusters() {
  if (!mClusterEnded) return;
  mClusterEnded = false;
  const auto ended = [](const auto& cluster) {
    return cluster->live == 0 && cluster->transfers == 0;
  };
  for (const auto& cluster : mClusters) {
    if (!ended(cluster)) continue;
    for (const auto& block : cluster->blocks) {
      const int64_t damaged = block->segment->damaged();
      if (damaged >= 0) {
        fail(
            "a block wrote outside its shared memory, %lld bytes from the dynamic part's start",
            static_cast<long long>(damaged - (block->segment->dynamic() - block->segment->base())));
      }
      mSlots[block->slot] = nullptr;
      mFreeSlots.push_back(block->slot);
    }
    giveBack(*cluster);
  }
  mClusters.erase(std::remove_if(mClusters.begin(), mClusters.end(), ended), mClusters.end());
  mWarp = nullptr;
}

void Machine::exit() {
  Fiber* const self = mCurrent;
  self->state = State::kExited;
  self->warp->live &= ~(1U << self->lane);
  if (self->warp->live == 0) --self->block->liveWarps;
  --self->block->live;
  Cluster& cluster = *self->block->cluster;
  --cluster.live;
  leaveMeetings(self);
  if (cluster.live == 0 && cluster.transfers == 0) mClusterEnded = true;
  switchToNext(true);
  __builtin_unreachable();
}

void Machine::endTransfer(Cluster* cluster) {
  if (--cluster->transfers == 0 && cluster->live == 0) mClusterEnded = true;
}

Block* Machine::blockOf(uint32_t address) const {
  const uint32_t slot = address >> kSlotShift;
  return slot < mSlots.size() ? mSlots[slot] : nullptr;
}

size_t Machine::staticOffset(const void* key, size_t bytes, size_t alignment) {
  for (const StaticObject& object : mStaticObjects) {
    if (object.key == key) return object.offset;
  }
  const size_t offset = (mStaticEnd + alignment - 1) / alignment * alignment;
  if (offset + bytes > kStaticBytes) {
    fail("%zu bytes of static shared memory; the emulation has %zu", offset + bytes, kStaticBytes);
  }
  mStaticObjects.push_back({key, offset});
  mStaticEnd = offset + bytes;
  for (const auto& cluster : mClusters) {
    for (const auto& block : cluster->blocks) block->segment->extendStatic(mStaticEnd);
  }
  return offset;
}

// ---- who runs next -----------------------------------------------------------------------------

void Machine::makeReady(Fiber* fiber) {
  fiber->state = State::kRunnable;
  Warp* const warp = fiber->warp;
  if (warp->ready == 0) {
    warp->place = static_cast<uint32_t>(mReady.size());
    mReady.push_back(warp);
  }
  warp->ready |= 1U << fiber->lane;
}

void Machine::suspend(State state) {
  mCurrent->state = state;
  switchToNext(false);
}

void Machine::yield() {
  makeReady(mCurrent);
  switchToNext(false);
}

void Machine::enter(Fiber* fiber) {
  mCurrent = fiber;
  if (fiber == nullptr) return;
  threadIdx = fiber->thread;
  blockIdx = fiber->blockIndex;
}

void Machine::switchToNext(bool ends) {
  Fiber* const self = mCurrent;
  Fiber* const next = pick();
  if (next == self) return;
  enter(next);
  switchContext(self->context, next != nullptr ? next->context : mHome, ends);
}

uint64_t Machine::priority(const Warp* warp) const {
  const uint64_t number = uint64_t{warp->block->slot} << 8 | static_cast<unsigned>(warp->index);
  const uint64_t own = scramble(number ^ mSalt);
  if (!mBlocksFirst) return own;
  return (scramble(warp->block->slot ^ mSalt) & ~uint64_t{0xffff}) | (own & 0xffff);
}

Warp* Machine::pickWarp() {
  if (mReady.empty()) return nullptr;
  Warp* warp = mReady[mRandom.below(static_cast<uint32_t>(mReady.size()))];
  if (mPriorities && !mRandom.once(kAnyWarp)) {
    for (Warp* other : mReady) {
      if (priority(other) > priority(warp)) warp = other;
    }
  }
  if (mRandom.once(kNewPriorities)) mSalt = scramble(mSalt);
  warp->turn = mRandom.below(kLanes);
  return warp;
}

// The next thread, no longer marked ready; null where clusters have to go first.
Fiber* Machine::pick() {
  for (;;) {
    if (mClusterEnded) return nullptr;
    mEngine.tick();
    Warp* warp = mWarp;
    if (warp == nullptr || warp->ready == 0 || mRandom.once(mKeep)) warp = pickWarp();
    if (warp == nullptr) {
      if (!idle()) abort("deadlock: no thread can go on\n" + describeThreads(mClusters));
      continue;
    }
    mWarp = warp;
    const uint32_t turned = warp->ready >> warp->turn | warp->ready << (-warp->turn & 31);
    const int lane =
        static_cast<int>((static_cast<uint32_t>(__builtin_ctz(turned)) + warp->turn) % kLanes);
    warp->ready &= ~(1U << lane);
    if (warp->ready == 0) {
      mReady[warp->place] = mReady.back();
      mReady[warp->place]->place = warp->place;
      mReady.pop_back();
    }
    return warp->lanes[lane];
  }
}

// No thread can run: lets a copy land.
bool Machine::idle() {
  if (mEngine.empty()) return false;
  mEngine.completeOne(true);
  return true;
}

// ---- what the kernels call ---------------------------------------------------------------------

void mayYield() {
  constexpr uint32_t kYields = 32;
  if (gMachine->random().once(kYields)) gMachine->yield();
}

void requireHopper(const char* what) {
  const int capability = gMachine->launch().computeCapability;
  if (capability < 90) {
    fail("%s on a device of compute capability %d.%d", what, capability / 10, capability % 10);
  }
}

void checkAligned(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    fail("an access of %zu bytes at %p", bytes, address);
  }
}

void* dynamicShared() { return gMachine->current()->block->segment->dynamic(); }

void* staticShared(const void* key, size_t bytes, size_t alignment) {
  const size_t offset = gMachine->staticOffset(key, bytes, alignment);
  return gMachine->current()->block->segment->base() + offset;
}

uint32_t sharedAddress(const void* pointer) {
  const Block& block = *gMachine->current()->block;
  const auto offset = static_cast<const char*>(pointer) - block.segment->base();
  // One past the end is an address, too.
  if (offset < 0 || offset > static_cast<std::ptrdiff_t>(block.segment->bytes())) {
    fail("sharedAddress of %p, which is not in this block's shared memory", pointer);
  }
  return block.slot << kSlotShift | static_cast<uint32_t>(offset);
}

void* ownShared(uint32_t address, size_t bytes) {
  const Block& block = *gMachine->current()->block;
  if (address >> kSlotShift != block.slot) {
    fail("the shared address %#x is not in this block's memory", address);
  }
  const uint32_t offset = address & ((1U << kSlotShift) - 1);
  const size_t alignment = bytes < 16 ? bytes : 16;
  if (address % alignment != 0 || !block.segment->owns(offset, bytes)) {
    fail("%zu bytes at the shared address %#x are misaligned or nobody's", bytes, address);
  }
  return block.segment->base() + offset;
}

uint32_t clusterAddress(uint32_t address, uint32_t rank) {
  requireHopper("mapa");
  const Block& block = *gMachine->current()->block;
  if (address >> kSlotShift != block.slot) {
    fail("clusterAddress of %#x, which is not in this block's memory", address);
  }
  if (rank >= block.cluster->blocks.size()) {
    fail("clusterAddress of block %u of a cluster of %zu", rank, block.cluster->blocks.size());
  }
  return block.cluster->blocks[rank]->slot << kSlotShift | (address & ((1U << kSlotShift) - 1));
}

}  // namespace emulation
