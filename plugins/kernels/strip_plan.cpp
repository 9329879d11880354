// The heuristics of the strip scans. docs/kernels.md has the reasons.
#include "strip_plan.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "paths.h"
#include "plan_arithmetic.h"
#include "tuning.h"
#include "validate.h"

namespace gspn2 {
namespace {

constexpr int64_t kMaxExtent = INT32_MAX / 2;
constexpr int kMaxParts = 8;  // the portable cluster size
constexpr int kMinPart = 64;  // positions that are worth a block of their own
constexpr int kPartUnit = 8;  // a part is a multiple of this
constexpr int kMaxStages = 4;
constexpr int kRoomyStages = 3;
constexpr int kProducedWarps = 3;  // that two producers suffice for
constexpr int kMinStages = 2;
// Horizontal lines: from where two blocks share one, up to where two do, and a block's positions of
// longer ones.
constexpr int64_t kPairedLine = 192;
constexpr int64_t kMaxPairedLine = 512;
constexpr int64_t kColumnPart = 128;
constexpr int64_t kHurriedPart = 176;  // where arithmetic bounds a walk: four warps, not three
constexpr int64_t kLeastHurriedPart = 164;
constexpr int64_t kWideSteps = 256;  // from where wide pieces pay,
constexpr int64_t kWidePart = 120;   // and positions of a block
// Slices are cut where each has many tiles of results.
constexpr int64_t kCutTiles = 8;
constexpr int64_t kCutSlices = 16;
constexpr int64_t kLongestLine = kMaxParts * stripColumnWalkers(2) * stripStride(2);

// Positions of a lane and the most warps of a block, in the order of preference.
struct Shape {
  int rows, warps;
};
constexpr Shape kColumnShapes[] = {{1, stripColumnWalkers(1)}, {2, stripColumnWalkers(2)}};
constexpr Shape kRowShapes[] = {{1, 1}, {2, kStripRowWalkers}, {4, kStripRowWalkers}};

constexpr int kWorthCutting = 4;  // a part of a slice that a cluster must be spared

// Directions side by side: blocks to four multiprocessors up to which the clusters of all of them
// find room at once, two blocks to a multiprocessor or one. As clusters lie within a group of
// multiprocessors, some of each group stay empty: an H200 has room for 30 clusters of eight where
// two blocks fit, of 33. Lines are cut into no more parts than that, unless a block holds no part
// so long.
constexpr int64_t kSharedQuarters = 7;
constexpr int64_t kAloneQuarters = 3;
constexpr int kReservedShared = 1024;  // bytes of a multiprocessor's shared memory for each block

// Blocks that run at the same time, if there is room.
int64_t blocksAtOnce(const DirectionScan& scan, int64_t parts) {
  const int64_t directions = scan.sideBySide() ? kDirectionCount : 1;
  return directions * scan.problem.n * scan.problem.c * parts;
}

int64_t blocksOfQuarters(int64_t quarters, const DeviceInfo& device) {
  return quarters * device.multiprocessors / 4;
}

// Dynamic shared memory that a block may have.
int mostShared(const DirectionScan& scan, const DeviceInfo& device, const StripPlan& plan) {
  const int most = device.sharedBytesPerBlock;
  if (!scan.sideBySide() ||
      blocksAtOnce(scan, plan.parts) <= blocksOfQuarters(kAloneQuarters, device)) {
    return most;
  }
  return (most + kReservedShared) / 2 - kReservedShared;  // two blocks to a multiprocessor
}

// Steps of a tile of results, between which slices are cut.
int64_t tileSteps(const gspn2_problem_t& problem) {
  return kStripTile / planElementBytes(problem.dtype);
}

// Whether a block's shared memory holds the plan, whose size it sets.
bool holds(const DirectionScan& scan, const DeviceInfo& device, StripPlan* plan) {
  const int elementBytes = planElementBytes(scan.problem.dtype);
  const StripLayout layout =
      scan.horizontal()
          ? columnLayout(scan.output,
                         stripPieceBytes(scan.output, scan.problem.normalize, plan->rows,
                                         elementBytes, plan->wide),
                         plan->rows, plan->own, plan->parts, plan->warps, plan->stages)
          : rowLayout(scan.output, plan->rows, plan->warps, plan->stages, elementBytes);
  plan->sharedBytes = layout.total;
  return layout.total <= mostShared(scan, device, *plan);
}

// Whether half precision's states are bound by what normalises their weights.
bool isHurried(const DirectionScan& scan) {
  return scan.output == ScanOutput::kStates && scan.problem.dtype != GSPN2_FLOAT32 &&
         scan.problem.normalize != GSPN2_NORMALIZE_NONE;
}

// `parts`, or fewer where rounding leaves the last ones empty.
void setParts(int64_t line, int parts, StripPlan* plan) {
  plan->own = planRoundUp(planCeilDiv(line, parts), kPartUnit);
  plan->parts = planCeilDiv(line, plan->own);
}

// Warps that load a stage. On an H200, in us, by 1, 2 and 4 of them: left to right 8x64x256x256
// fp16 126, 125, 126 (sigmoid 179, 182, 181), fp32 217, 214, 213; 16x8x1024x1024 fp16 505, 499, 505
// (654, 677, not run), 1x128x512x512 140, 129, 123, fp32 not run, 896, 895; one warp of one
// position to a lane, 32x196x32x32 fp16 27.7, 29.8, 37.4, fp32 42.4, 42.1, 44.9. Top to bottom
// 1x768x64x64 fp32 27.8 by 4, 22.7 by 2.
int producers(const DirectionScan& scan, const StripPlan& plan) {
  const bool wide = scan.problem.dtype == GSPN2_FLOAT32;
  if (!scan.horizontal()) {
    if (!plan.bulk) return 1;
    const bool manyCopies = scan.output != ScanOutput::kStates || plan.parts > 1;
    return manyCopies ? kStripRowProducers : 2;
  }
  if (plan.warps == 1) return wide ? 2 : 1;
  if (wide) return kStripColumnProducers;
  if (scan.problem.normalize != GSPN2_NORMALIZE_NONE) return plan.warps > kProducedWarps ? 2 : 1;
  return plan.warps > kProducedWarps ? kStripColumnProducers : 2;
}

bool canBeWide(const DirectionScan& scan, int rows) {
  return scan.horizontal() && stripCanBeWide(scan.output, scan.problem.normalize, rows,
                                             planElementBytes(scan.problem.dtype));
}

// Whether wide pieces are faster for parts of so many positions, if slices are many. On an H200,
// narrow and wide, in us: 16x8x1024x1024 880, 820; 4x16x1000x1024 484, 416; 8x64x256x256 217, 210;
// 1x128x512x512 226, 221; 8x16x384x512 170, 170; of shorter parts 2x64x320x640 177, 196;
// 64x8x224x224 166, 171; 4x64x96x384 67, 71; of fewer steps 32x32x128x128 108, 110; 16x16x256x192
// 88, 88; with sigmoid 8x64x256x256 216, 262.
bool likesWide(const DirectionScan& scan, int rows, int64_t own) {
  return scan.steps() >= kWideSteps && own >= kWidePart && canBeWide(scan, rows);
}

// Cuts a part into warps of a shape; false where it is too long for a block.
bool cutPart(const DirectionScan& scan, const DeviceInfo& device, const Shape& shape,
             StripPlan* plan) {
  plan->rows = shape.rows;
  plan->warps = stripWarps(plan->own, plan->parts, shape.rows);
  if (plan->warps > shape.warps) return false;
  plan->producers = producers(scan, *plan);
  // Horizontally several blocks to a multiprocessor do better than many stages, but wide pieces do
  // better still.
  const bool many = blocksAtOnce(scan, plan->parts) > device.multiprocessors;
  plan->stages = !scan.horizontal() ? kMaxStages : many ? kMinStages : kRoomyStages;
  plan->wide = many && likesWide(scan, plan->rows, plan->own);
  if (plan->wide && holds(scan, device, plan)) return true;
  plan->wide = false;
  for (; plan->stages >= kMinStages; --plan->stages) {
    if (holds(scan, device, plan)) return true;
  }
  return false;
}

// Cuts the line into `parts` or fewer; false where a part is too long for a block.
bool cut(const DirectionScan& scan, const DeviceInfo& device, int64_t line, int parts,
         StripPlan* plan) {
  setParts(line, parts, plan);
  const auto fits = [&](const Shape& shape) { return cutPart(scan, device, shape, plan); };
  return scan.horizontal() ? std::any_of(std::begin(kColumnShapes), std::end(kColumnShapes), fits)
                           : std::any_of(std::begin(kRowShapes), std::end(kRowShapes), fits);
}

// Blocks that share a horizontal line at least. On an H200, in us, a block's positions 128, 256 and
// as many as fit: 16x8x1024x1024 fp16 499, 509, 570, fp32 896, 900, 903; 8x64x256x256 fp16 124,
// 130, fp32 213, 213; 1x128x512x512 fp16 147, 129, fp32 237, 225. Two blocks of 128 positions share
// a multiprocessor, and clusters of 8 fill the device more evenly than those of 4.
// Wide pieces fit no more than 144. With sigmoid 176, by two producers: 16x8x1024x1024 fp16 617 for
// 650, 4x16x1000x1024 356 for 371; but of 160 positions 8x16x640x640 322 for 277.
int64_t columnParts(const DirectionScan& scan) {
  const int64_t line = scan.line();
  if (line < kPairedLine) return 1;
  int64_t parts = planCeilDiv(line, kColumnPart);
  if (line > kMaxPairedLine && isHurried(scan)) {
    const int64_t fewer = planCeilDiv(line, kHurriedPart);
    if (planCeilDiv(line, fewer) >= kLeastHurriedPart) parts = fewer;
  }
  const bool wide = likesWide(scan, kColumnShapes[1].rows, planCeilDiv(line, parts));
  return line <= kMaxPairedLine && !wide ? 2 : parts;
}

// The same as the environment says it; false where that is too much for a block or a cluster.
bool cutAsTuned(const DirectionScan& scan, const DeviceInfo& device, int64_t line,
                const int (&tuned)[5], StripPlan* plan) {
  if (scan.horizontal() && tuned[0] > 2) return false;
  plan->rows = tuned[0];
  setParts(line, tuned[1], plan);
  plan->stages = tuned[2];
  plan->producers = tuned[3];
  plan->wide = tuned[4] != 0;
  if (plan->wide && !canBeWide(scan, plan->rows)) return false;
  plan->warps = stripWarps(plan->own, plan->parts, plan->rows);
  const int most = scan.horizontal() ? stripColumnWalkers(plan->rows) : kStripRowWalkers;
  const int mostProducers = scan.horizontal() ? kStripColumnProducers : kStripRowProducers;
  if (plan->producers < 1 || plan->producers > mostProducers || plan->stages < kMinStages ||
      plan->parts > kMaxParts || plan->warps > most || !holds(scan, device, plan)) {
    return false;
  }
  countTuned();
  return true;
}

}  // namespace

bool planStripScan(const DirectionScan& scan, const DeviceInfo& device, StripPlan* plan) {
  const gspn2_problem_t& problem = scan.problem;
  const int64_t slices = problem.n * problem.c;
  const int64_t line = scan.line();
  if (problem.w * planElementBytes(problem.dtype) % kStripAccess != 0) return false;
  if (problem.h > kMaxExtent || problem.w > kMaxExtent || slices > kMaxExtent / kMaxParts ||
      problem.n * 12 * problem.c > kMaxExtent) {
    return false;
  }
  const bool hopper = device.computeCapability >= kClusterCapability;
  const int most = hopper ? kMaxParts : 1;  // parts of a line meet in a cluster
  plan->bulk = hopper;
  if (int tuned[5]; readTuning("GSPN2_STRIP_PLAN", 5, tuned)) {
    return cutAsTuned(scan, device, line, tuned, plan);
  }
  // More parts than the line needs where there are too few slices to keep the device busy.
  int64_t useful = std::max<int64_t>(std::min(device.multiprocessors / slices, line / kMinPart),
                                     scan.horizontal() ? columnParts(scan) : 1);
  if (scan.sideBySide()) {
    useful = std::min(useful, blocksOfQuarters(kSharedQuarters, device) / blocksAtOnce(scan, 1));
  }
  for (auto parts = static_cast<int>(std::clamp<int64_t>(useful, 1, most)); parts <= most;
       ++parts) {
    if (cut(scan, device, line, parts, plan)) return true;
  }
  return false;
}

StripParams stripParams(const DirectionScan& scan, const StripPlan& plan) {
  const gspn2_problem_t& problem = scan.problem;
  StripParams params{};
  params.x = scan.x;
  params.lam = scan.lam;
  params.w = scan.w;
  params.u = scan.u;
  params.m = scan.m;
  params.out = scan.out;
  params.sums = scan.sums;
  params.add = scan.add;
  params.bulk = plan.bulk;
  params.reverse = scan.reverse();
  params.startsNext = scan.startsNext;
  params.endsBehind = scan.overlaps;
  params.plane = scan.plane();
  params.line = static_cast<int>(scan.line());
  params.steps = static_cast<int>(scan.steps());
  params.chunk = static_cast<int>(scan.chunk());
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.gateBatch = scan.gateBatch();
  params.affinityBatch = scan.affinityBatch();
  params.own = plan.own;
  params.parts = plan.parts;
  params.warps = plan.warps;
  params.producers = plan.producers;
  params.stages = plan.stages;
  params.slices = static_cast<int>(problem.n * problem.c);
  params.clusters = params.slices;
  params.units = 1;
  return params;
}

size_t stripLineScanWorkspace(const gspn2_problem_t& problem, gspn2_direction_t direction) {
  const bool horizontal = direction == GSPN2_LEFT_TO_RIGHT || direction == GSPN2_RIGHT_TO_LEFT;
  if (!horizontal || problem.h < kPairedLine || problem.w < kCutTiles * tileSteps(problem) ||
      problem.n * problem.c < kCutSlices) {
    return 0;
  }
  // No less than smaller problems want: some callers ask for the largest one alone.
  return sizeof(uint64_t) * kStripHandingClusters * std::min<int64_t>(problem.h, kLongestLine);
}

bool sharesSlices(const DirectionScan& scan, const StripPlan& plan) {
  return scan.horizontal() && scan.output == ScanOutput::kStates && plan.rows > 1 && plan.warps > 1;
}

void shareSlices(const DirectionScan& scan, const StripPlan& plan, int resident,
                 StripParams* params) {
  int tuned[2] = {-1, 1};  // clusters, whether slices are cut
  const bool isTuned = readTuning("GSPN2_STRIP_TOUR", 2, tuned);
  if (isTuned) {
    countTuned();
    if (tuned[0] == 0) return;
    if (tuned[0] > 0) resident = tuned[0];
  }
  if (resident < 1 || resident >= params->slices) return;
  const bool hasRoom = scan.workspace != nullptr && scan.line() <= kLongestLine &&
                       stripLineScanWorkspace(scan.problem, scan.direction) > 0;
  // The longest way with cuts and without, in units.
  const int64_t units = planCeilDiv(scan.steps(), tileSteps(scan.problem));
  const int64_t remaining = params->slices % resident;
  const int64_t share = planCeilDiv(remaining * units, resident);
  const bool cuts = hasRoom && resident <= kStripHandingClusters && tuned[1] != 0 &&
                    remaining > 0 && share < units - units / kWorthCutting;
  // Whole slices alone are shared where arithmetic bounds the walk, and where a block has a
  // multiprocessor to itself, which would else load nothing while a slice ends. On an H200, in us,
  // shared and not: 8x64x256x256 fp16 119, 125, fp32 220, 218; 32x32x128x128 fp16 63, 69, fp32 118,
  // 117; 8x64x256x256 fp32 with sigmoid 222, 223; by wide pieces fp32 211, 225.
  const bool light = scan.problem.dtype == GSPN2_FLOAT32 &&
                     scan.problem.normalize == GSPN2_NORMALIZE_NONE && !plan.wide;
  if (!cuts && light && !isTuned) return;
  params->clusters = resident;
  if (!cuts) return;
  params->units = static_cast<int>(units);
  params->whole = params->slices / resident;
  params->share = static_cast<int>(remaining * units / resident);
  params->larger = static_cast<int>(remaining * units % resident);
  params->handed = static_cast<uint64_t*>(scan.workspace);
}

}  // namespace gspn2
