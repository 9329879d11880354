#include "copies.h"

#include <cstring>
#include <utility>

#include "machine.h"
#include "mbarrier.h"

namespace emulation {
namespace {

constexpr int kChunkBytes = 16;
constexpr uint32_t kTileAlignment = 128;
constexpr int kPoison = 0xff;  // a NaN in every dtype

// Arrives for the batches at the front whose copies have all landed.
void settleBatches(CopyQueue& copies) {
  while (!copies.batches.empty()) {
    const CopyBatch front = copies.batches.front();
    if (front.outstanding > 0 || front.barrier == 0) return;
    copies.batches.erase(copies.batches.begin());
    ++copies.first;
    arrive(front.barrier, 0);
  }
}

CopyBatch& openBatch(CopyQueue& copies) {
  if (copies.batches.empty() || copies.batches.back().barrier != 0) {
    copies.batches.push_back({0, 0});
  }
  return copies.batches.back();
}

}  // namespace

CopyEngine::CopyEngine(Machine& machine, Random& random) : mMachine(machine), mRandom(random) {
  constexpr uint32_t kEvery[] = {2, 16, 256};
  constexpr uint32_t kEager[] = {0, 2, 8};
  constexpr uint32_t kLate[] = {0, 1, 2};
  mEvery = kEvery[random.below(3)];
  mEager = kEager[random.below(3)];
  mLate = kLate[random.below(3)];
}

void CopyEngine::begin(Transfer transfer) {
  transfer.late = mRandom.once(mLate);
  ++transfer.fiber->block->cluster->transfers;
  mPending.push_back(std::move(transfer));
  if (mRandom.once(mEager)) {
    Transfer now = std::move(mPending.back());
    mPending.pop_back();
    complete(now);
  }
}

void CopyEngine::completeOne(bool evenLate) {
  const uint32_t at = mRandom.below(static_cast<uint32_t>(mPending.size()));
  if (mPending[at].late && !evenLate) return;
  Transfer now = std::move(mPending[at]);
  if (at + 1 != mPending.size()) mPending[at] = std::move(mPending.back());
  mPending.pop_back();
  complete(now);
}

void CopyEngine::complete(Transfer& transfer) {
  Fiber* const fiber = transfer.fiber;
  const Fiber* const outer = std::exchange(mActive, fiber);
  switch (transfer.kind) {
    case Transfer::Kind::kChunk:
      completeChunk(transfer);
      break;
    case Transfer::Kind::kLoad:
      if (transfer.tile != nullptr) {
        transfer.tile->load(static_cast<char*>(transfer.memory));
      } else {
        std::memcpy(transfer.memory, transfer.source, static_cast<size_t>(transfer.bytes));
      }
      completeBytes(transfer.barrier, transfer.bytes);
      break;
    case Transfer::Kind::kRemote:
      if (mMachine.blockOf(transfer.target)->live == 0) {
        fail("a remote store arrives in a block that has ended");
      }
      std::memcpy(transfer.memory, transfer.value, static_cast<size_t>(transfer.bytes));
      completeBytes(transfer.barrier, transfer.bytes);
      break;
  }
  mActive = outer;
  mMachine.endTransfer(fiber->block->cluster);
}

void CopyEngine::completeChunk(Transfer& transfer) {
  if (transfer.source == nullptr) {
    std::memset(transfer.memory, 0, kChunkBytes);
  } else {
    std::memcpy(transfer.memory, transfer.source, kChunkBytes);
  }
  CopyQueue& copies = transfer.fiber->copies;
  --copies.batches[transfer.number - copies.first].outstanding;
  settleBatches(copies);
}

// ---- what the kernels call ---------------------------------------------------------------------

namespace {

Transfer newTransfer(Transfer::Kind kind, int bytes, uint32_t target, uint32_t barrier) {
  Transfer transfer{};
  transfer.kind = kind;
  transfer.bytes = bytes;
  transfer.target = target;
  transfer.barrier = barrier;
  transfer.fiber = gMachine->current();
  return transfer;
}

}  // namespace

void copyChunk(uint32_t target, const void* source, int bytes) {
  if (bytes != 0 && bytes != kChunkBytes) fail("copyChunk: %d bytes; expected 0 or 16", bytes);
  if (reinterpret_cast<uintptr_t>(source) % kChunkBytes != 0) {
    fail("copyChunk: the source %p is not a multiple of 16", source);
  }
  Transfer transfer = newTransfer(Transfer::Kind::kChunk, kChunkBytes, target, 0);
  transfer.memory = ownShared(target, kChunkBytes);
  transfer.source = bytes == 0 ? nullptr : source;
  std::memset(transfer.memory, kPoison, kChunkBytes);
  CopyQueue& copies = transfer.fiber->copies;
  ++openBatch(copies).outstanding;
  transfer.number = copies.first + static_cast<uint32_t>(copies.batches.size()) - 1;
  gMachine->engine().begin(std::move(transfer));
  mayYield();
}

void arriveAfterCopies(uint32_t barrier) {
  checkBarrier(barrier);
  CopyQueue& copies = gMachine->current()->copies;
  openBatch(copies).barrier = barrier;
  settleBatches(copies);
  mayYield();
}

void loadTile(uint32_t target, const CUtensorMap& map, int column, int row, int plane,
              uint32_t barrier) {
  requireHopper("cp.async.bulk.tensor");
  const DecodedMap decoded = decodeMap(map);
  if (target % kTileAlignment != 0) {
    fail("a tile at the shared address %#x; expected a multiple of %u", target, kTileAlignment);
  }
  checkBarrier(barrier);
  Transfer transfer = newTransfer(Transfer::Kind::kLoad, decoded.boxBytes(), target, barrier);
  transfer.memory = ownShared(target, static_cast<size_t>(decoded.boxBytes()));
  transfer.tile = std::make_unique<TileCopy>(TileCopy{decoded, {column, row, plane}});
  std::memset(transfer.memory, kPoison, static_cast<size_t>(decoded.boxBytes()));
  gMachine->engine().begin(std::move(transfer));
  mayYield();
}

void copyBulk(uint32_t target, const void* source, int bytes, uint32_t barrier) {
  requireHopper("cp.async.bulk");
  if (bytes <= 0 || bytes % kChunkBytes != 0 || target % kChunkBytes != 0 ||
      reinterpret_cast<uintptr_t>(source) % kChunkBytes != 0) {
    fail("copyBulk: %d bytes from %p to %#x; expected multiples of 16", bytes, source, target);
  }
  checkBarrier(barrier);
  Transfer transfer = newTransfer(Transfer::Kind::kLoad, bytes, target, barrier);
  transfer.memory = ownShared(target, static_cast<size_t>(bytes));
  transfer.source = source;
  std::memset(transfer.memory, kPoison, static_cast<size_t>(bytes));
  gMachine->engine().begin(std::move(transfer));
  mayYield();
}

void storeRemote(uint32_t address, const void* value, int bytes, uint32_t barrier) {
  requireHopper("st.async");
  if (gMachine->current()->block->cluster->blocks.size() == 1) {
    fail(
        "a remote store in a launch without clusters, which a GPU takes for an illegal "
        "instruction");
  }
  Transfer transfer = newTransfer(Transfer::Kind::kRemote, bytes, address, barrier);
  if (address >> kSlotShift != barrier >> kSlotShift) {
    fail("a remote store to one block is counted on a barrier of another");
  }
  transfer.memory = clusterShared(address, static_cast<size_t>(bytes));
  checkBarrier(barrier);
  std::memcpy(transfer.value, value, static_cast<size_t>(bytes));
  std::memset(transfer.memory, kPoison, static_cast<size_t>(bytes));
  gMachine->engine().begin(std::move(transfer));
  mayYield();
}

}  // namespace emulation
