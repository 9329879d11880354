// What went wrong, and who waits for what.
#include <cstdarg>
#include <cstdio>
#include <map>

#include "machine.h"
#include "mbarrier.h"

namespace emulation {
namespace {

constexpr size_t kMaxLines = 60;

std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof(text), pattern, arguments);
  va_end(arguments);
  return text;
}

std::string describe(const Fiber& fiber) {
  switch (fiber.state) {
    case State::kRunnable:
      return "can run";
    case State::kInWarp:
      return "wait for lanes of their warp";
    case State::kInBlock: {
      const NamedBarrier& barrier = fiber.block->barriers[fiber.barrier];
      return format("wait at the block's barrier %d for %d warps; %d are there", fiber.barrier,
                    barrier.threads == 0 ? fiber.block->liveWarps : barrier.threads / kLanes,
                    barrier.completeWarps);
    }
    case State::kInCluster:
      return format("wait at the cluster's barrier for %d threads; %d are there",
                    fiber.block->cluster->live, fiber.block->cluster->arrived);
    case State::kAtBarrier: {
      const auto offset = fiber.block->segment->base() +
                          (fiber.address & ((1U << kSlotShift) - 1)) -
                          fiber.block->segment->dynamic();
      return format("wait for parity %u of the mbarrier %lld bytes into the dynamic part, ",
                    fiber.parity, static_cast<long long>(offset)) +
             describeBarrier(fiber.address);
    }
    case State::kAtWord: {
      const auto offset = fiber.block->segment->base() +
                          (fiber.address & ((1U << kSlotShift) - 1)) -
                          fiber.block->segment->dynamic();
      return format("wait for a word %lld bytes into the dynamic part",
                    static_cast<long long>(offset));
    }
    case State::kExited:
      break;
  }
  return "";
}

}  // namespace

std::string nameOf(const Fiber* fiber) {
  const uint3 block = fiber->blockIndex;
  return format("block (%u, %u, %u), warp %d, lane %d", block.x, block.y, block.z,
                fiber->warp->index, fiber->lane);
}

std::string describeThreads(const std::vector<std::unique_ptr<Cluster>>& clusters) {
  std::string text;
  size_t lines = 0;
  for (const auto& cluster : clusters) {
    for (const auto& block : cluster->blocks) {
      for (const Warp& warp : block->warps) {
        std::map<std::string, uint32_t> lanes;
        unsigned index = 0;
        for (int lane = 0; lane < kLanes; ++lane) {
          if ((warp.live >> lane & 1U) == 0) continue;
          lanes[describe(*warp.lanes[lane])] |= 1U << lane;
          index = warp.lanes[lane]->blockIndex.x;
        }
        for (const auto& [what, mask] : lanes) {
          if (++lines > kMaxLines) return text + "  ...\n";
          text += format("  block %u, warp %d, lanes %08x ", index, warp.index, mask);
          text += what + "\n";
        }
      }
    }
  }
  return text;
}

void fail(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof(text), pattern, arguments);
  va_end(arguments);
  std::string message = text;
  if (const Fiber* copier = gMachine->engine().active()) {
    message += " (a copy that " + nameOf(copier) + " began)";
  } else if (gMachine->current() != nullptr) {
    message += " (" + nameOf(gMachine->current()) + ")";
  }
  gMachine->abort(std::move(message));
}

}  // namespace emulation
