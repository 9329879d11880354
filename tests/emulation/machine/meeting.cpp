// Where threads meet: in a warp, in a block, in a cluster.
#include "machine.h"

namespace emulation {
namespace {

uint32_t bit(int lane) { return 1U << lane; }

bool complete(const Meeting& meeting, uint32_t live) {
  return meeting.arrived != 0 && (meeting.mask & live & ~meeting.arrived) == 0;
}

bool isOfMatrices(Meeting::Kind kind) {
  return kind == Meeting::Kind::kMatrices || kind == Meeting::Kind::kProduct;
}

// Gives every lane its result; all but the running one become ready.
void finish(Warp& warp, const Meeting& meeting) {
  if (isOfMatrices(meeting.kind)) {
    if (meeting.arrived != ~0U) fail("matrices of the lanes %#x alone", meeting.arrived);
    const bool loads = meeting.kind == Meeting::Kind::kMatrices;
    (loads ? finishMatrices : finishProduct)(meeting.values);
  }
  uint32_t votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((meeting.arrived & bit(lane)) != 0 && meeting.values[lane] != 0) votes |= bit(lane);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((meeting.arrived & bit(lane)) == 0) continue;
    Fiber* const fiber = warp.lanes[lane];
    if (meeting.kind == Meeting::Kind::kShuffle) {
      const int source = meeting.sources[lane];
      const bool given = source >= 0 && source < kLanes && (meeting.arrived & bit(source)) != 0;
      fiber->result = given ? meeting.values[source] : ~uint64_t{0};  // undefined: a NaN
    } else {
      fiber->result = votes;
    }
    if (fiber->state == State::kInWarp) gMachine->makeReady(fiber);
  }
}

uint64_t meet(Meeting::Kind kind, uint32_t mask, uint64_t value, int source) {
  Fiber* const self = gMachine->current();
  Warp& warp = *self->warp;
  if ((mask & bit(self->lane)) == 0) fail("the mask %#x of a warp leaves out its caller", mask);
  Meeting* meeting = nullptr;
  for (Meeting& open : warp.meetings) {
    if (open.mask != mask) continue;
    if (open.kind != kind) fail("lanes of a warp meet for different things by the mask %#x", mask);
    meeting = &open;
  }
  if (meeting == nullptr) {
    warp.meetings.emplace_back();
    meeting = &warp.meetings.back();
    meeting->kind = kind;
    meeting->mask = mask;
    meeting->arrived = 0;
  }
  meeting->arrived |= bit(self->lane);
  meeting->values[self->lane] = value;
  meeting->sources[self->lane] = source;
  if (!complete(*meeting, warp.live)) {
    gMachine->suspend(State::kInWarp);
    return self->result;
  }
  const Meeting whole = *meeting;
  *meeting = warp.meetings.back();
  warp.meetings.pop_back();
  finish(warp, whole);
  mayYield();
  return self->result;
}

// ---- named barriers ----------------------------------------------------------------------------

bool lanesComplete(const NamedBarrier& barrier, const Warp& warp) {
  const uint32_t arrived = barrier.arrived[static_cast<size_t>(warp.index)];
  return arrived != 0 && (warp.live & ~arrived) == 0;
}

// A warp counts as a whole, whichever of its lanes have exited.
bool release(Block& block, int id) {
  NamedBarrier& barrier = block.barriers[id];
  const int wanted = barrier.threads == 0 ? block.liveWarps : barrier.threads / kLanes;
  if (barrier.completeWarps == 0 || barrier.completeWarps < wanted) return false;
  barrier.completeWarps = barrier.lanes = 0;
  for (Warp& warp : block.warps) {
    const uint32_t arrived = barrier.arrived[static_cast<size_t>(warp.index)];
    barrier.arrived[static_cast<size_t>(warp.index)] = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if ((arrived & bit(lane)) == 0) continue;
      Fiber* const fiber = warp.lanes[lane];
      if (fiber->state == State::kInBlock && fiber->barrier == id) gMachine->makeReady(fiber);
    }
  }
  return true;
}

void meetInBlock(int id, int threads) {
  Fiber* const self = gMachine->current();
  Block& block = *self->block;
  Warp& warp = *self->warp;
  if (id < 0 || id >= kNamedBarriers) fail("the named barrier %d; there are 16", id);
  if (threads % kLanes != 0 || threads < 0) fail("a named barrier of %d threads", threads);
  NamedBarrier& barrier = block.barriers[id];
  if (barrier.lanes > 0 && barrier.threads != threads) {
    fail("the barrier %d is met by %d threads and by %d", id, barrier.threads, threads);
  }
  barrier.threads = threads;
  ++barrier.lanes;
  barrier.arrived[static_cast<size_t>(warp.index)] |= bit(self->lane);
  if (lanesComplete(barrier, warp)) ++barrier.completeWarps;
  self->barrier = id;
  if (release(block, id)) {
    mayYield();
  } else {
    gMachine->suspend(State::kInBlock);
  }
}

// ---- clusters ----------------------------------------------------------------------------------

bool releaseCluster(Cluster& cluster) {
  if (cluster.arrived == 0 || cluster.arrived < cluster.live) return false;
  cluster.arrived = 0;
  ++cluster.phase;
  for (Fiber* fiber : cluster.waiting) gMachine->makeReady(fiber);
  cluster.waiting.clear();
  return true;
}

}  // namespace

// What a thread's end means to those who wait for it.
void leaveMeetings(Fiber* fiber) {
  Warp& warp = *fiber->warp;
  Block& block = *fiber->block;
  Cluster& cluster = *block.cluster;
  for (size_t i = 0; i < warp.meetings.size();) {
    if (!complete(warp.meetings[i], warp.live)) {
      ++i;
      continue;
    }
    const Meeting whole = warp.meetings[i];
    warp.meetings.erase(warp.meetings.begin() + static_cast<std::ptrdiff_t>(i));
    finish(warp, whole);
  }
  for (int id = 0; id < kNamedBarriers; ++id) {
    NamedBarrier& barrier = block.barriers[id];
    if (warp.live != 0 && lanesComplete(barrier, warp)) ++barrier.completeWarps;
    release(block, id);
  }
  if (fiber->arrivedInCluster && fiber->clusterPhase == cluster.phase) --cluster.arrived;
  releaseCluster(cluster);
}

void syncBlock() { meetInBlock(0, 0); }
void syncNamed(int id, int threads) {
  if (threads == 0) fail("a named barrier of no threads");
  meetInBlock(id, threads);
}
void syncWarp(uint32_t mask) { meet(Meeting::Kind::kSync, mask, 0, 0); }
uint64_t shuffle(uint32_t mask, uint64_t value, int source) {
  return meet(Meeting::Kind::kShuffle, mask, value, source);
}
uint32_t ballot(uint32_t mask, bool value) {
  return static_cast<uint32_t>(meet(Meeting::Kind::kBallot, mask, value ? 1 : 0, 0));
}
void meetForMatrices(Meeting::Kind kind, void* operands) {
  meet(kind, ~0U, reinterpret_cast<uint64_t>(operands), 0);
}
uint32_t liveLanes() { return gMachine->current()->warp->live; }
uint32_t clusterRank() {
  requireHopper("%cluster_ctarank");
  return gMachine->current()->block->rank;
}

void arriveCluster() {
  requireHopper("barrier.cluster");
  Fiber* const self = gMachine->current();
  Cluster& cluster = *self->block->cluster;
  if (self->arrivedInCluster) fail("a second arrival at the cluster's barrier without a wait");
  self->arrivedInCluster = true;
  self->clusterPhase = cluster.phase;
  ++cluster.arrived;
  releaseCluster(cluster);
  mayYield();
}

void waitCluster() {
  Fiber* const self = gMachine->current();
  Cluster& cluster = *self->block->cluster;
  if (!self->arrivedInCluster) fail("a wait at the cluster's barrier without an arrival");
  mayYield();
  if (self->clusterPhase == cluster.phase) {
    cluster.waiting.push_back(self);
    gMachine->suspend(State::kInCluster);
  }
  self->arrivedInCluster = false;
}

}  // namespace emulation
