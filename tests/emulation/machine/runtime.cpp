// The host's side: the device that is reported, launches, errors.
#include <cuda_runtime.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emulation.h"
#include "machine.h"

namespace emulation {
namespace {

constexpr int kMultiprocessors = 132;
constexpr int kMaxThreadsPerMultiprocessor = 2048;
constexpr int kMaxBlocksPerMultiprocessor = 32;
constexpr int kMaxThreadsPerBlock = 1024;
constexpr int kDefaultShared = 48 * 1024;
constexpr int kMaxShared = 227 * 1024;  // that a block may opt in to
constexpr int kMultiprocessorShared = 228 * 1024;
constexpr int kBlockReservedShared = 1024;
constexpr int kMaxCluster = 8;  // the portable size
constexpr int kMaxNonPortableCluster = 16;
constexpr unsigned kMaxGridYz = 65535;

struct Function {
  int sharedBytes = kDefaultShared;
  bool largeClusters = false;
};

std::recursive_mutex gMutex;
std::map<const void*, Function> gFunctions;
std::string gKernels, gTakenKernels, gClusters, gTakenClusters;
thread_local cudaError_t gLastError = cudaSuccess;
thread_local std::string gLastMessage;

cudaError_t report(cudaError_t error, const std::string& message) {
  gLastError = error;
  gLastMessage = message;
  std::fprintf(stderr, "gspn2 emulation: %s\n", message.c_str());
  return error;
}

uint64_t seed() {
  const char* const value = std::getenv("GSPN2_EMULATION_SEED");
  return value != nullptr ? std::strtoull(value, nullptr, 0) : 0;
}

// The device as the environment has it at the first question about it.
struct Device {
  int capability;       // major * 10 + minor
  int largeClusters;    // of more than eight blocks, at once; -1: as an H200; -2: it does not say
  int multiprocessors;  // that it says to have
};
const Device& emulatedDevice() {
  static const Device kDevice = [] {
    const char* const capability = std::getenv("GSPN2_EMULATION_CC");
    const char* const clusters = std::getenv("GSPN2_EMULATION_LARGE_CLUSTERS");
    const char* const multiprocessors = std::getenv("GSPN2_EMULATION_MULTIPROCESSORS");
    int major = 9;
    int minor = 0;
    if (capability != nullptr) std::sscanf(capability, "%d.%d", &major, &minor);
    return Device{major * 10 + minor, clusters != nullptr ? std::atoi(clusters) : -1,
                  multiprocessors != nullptr ? std::atoi(multiprocessors) : kMultiprocessors};
  }();
  return kDevice;
}

std::string nameKernel(const void* kernel, const char* signature) {
  Dl_info info{};
  if (dladdr(kernel, &info) == 0 || info.dli_sname == nullptr || info.dli_saddr != kernel) {
    return signature;
  }
  int status = 0;
  char* const readable = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string name = readable != nullptr ? readable : info.dli_sname;
  std::free(readable);
  return name.substr(0, name.rfind('('));
}

int blocksPerMultiprocessor(unsigned threads, size_t sharedBytes) {
  const int rounded = static_cast<int>((threads + kLanes - 1) / kLanes * kLanes);
  const int shared = static_cast<int>(sharedBytes) + kBlockReservedShared;
  return std::min({kMaxThreadsPerMultiprocessor / rounded, kMultiprocessorShared / shared,
                   kMaxBlocksPerMultiprocessor});
}

unsigned clusterSize(const cudaLaunchConfig_t& config, bool* wrong) {
  unsigned size = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id != cudaLaunchAttributeClusterDimension) continue;
    size = attribute.val.clusterDim.x;
    *wrong = size == 0 || attribute.val.clusterDim.y != 1 || attribute.val.clusterDim.z != 1;
  }
  return size;
}

bool isCooperative(const cudaLaunchConfig_t& config) {
  return std::any_of(config.attrs, config.attrs + config.numAttrs, [](const auto& attribute) {
    return attribute.id == cudaLaunchAttributeCooperative && attribute.val.cooperative != 0;
  });
}

// ---- memory faults -----------------------------------------------------------------------------

void onFault(int signal, siginfo_t* info, void*) {
  if (gMachine == nullptr || gMachine->current() == nullptr) {
    ::signal(signal, SIG_DFL);  // not the kernel's: it happens again
    return;
  }
  char what[64] = "a misaligned access: ";
  if (signal != SIGILL) {
    std::snprintf(what, sizeof(what), "access to memory at %p that is nobody's: ", info->si_addr);
  }
  gMachine->abort(what + nameOf(gMachine->current()));
}

// Faults of kernels end the launch while this stands.
class FaultGuard {
 public:
  FaultGuard() : mStack(64 * 1024) {
#ifndef __SANITIZE_ADDRESS__
    stack_t stack{};
    stack.ss_sp = mStack.data();
    stack.ss_size = mStack.size();
    sigaltstack(&stack, &mFormerStack);
    struct sigaction action{};
    action.sa_sigaction = onFault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &mFormerFault);
    sigaction(SIGBUS, &action, &mFormerBus);
    sigaction(SIGILL, &action, &mFormerIllegal);
#endif
  }
  ~FaultGuard() {
#ifndef __SANITIZE_ADDRESS__
    sigaction(SIGSEGV, &mFormerFault, nullptr);
    sigaction(SIGBUS, &mFormerBus, nullptr);
    sigaction(SIGILL, &mFormerIllegal, nullptr);
    sigaltstack(&mFormerStack, nullptr);
#endif
  }
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;

 private:
  std::vector<char> mStack;
  stack_t mFormerStack{};
  struct sigaction mFormerFault{};
  struct sigaction mFormerBus{};
  struct sigaction mFormerIllegal{};
};

cudaError_t checkLaunch(const cudaLaunchConfig_t& config, const Function& function,
                        unsigned cluster, bool wrongCluster) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffU || grid.y > kMaxGridYz ||
      grid.z > kMaxGridYz || threads == 0 || threads > kMaxThreadsPerBlock || block.z > 64) {
    return report(cudaErrorInvalidConfiguration, "a launch of no grid or block that there is");
  }
  if (wrongCluster || grid.x % cluster != 0 ||
      cluster >
          static_cast<unsigned>(function.largeClusters ? kMaxNonPortableCluster : kMaxCluster)) {
    return report(cudaErrorInvalidClusterSize, "clusters of " + std::to_string(cluster) +
                                                   " blocks in a grid of " +
                                                   std::to_string(grid.x));
  }
  if (cluster > 1 && emulatedDevice().capability < 90) {
    return report(cudaErrorNotSupported, "clusters before compute capability 9.0");
  }
  if (config.dynamicSmemBytes > static_cast<size_t>(function.sharedBytes)) {
    return report(cudaErrorInvalidValue,
                  std::to_string(config.dynamicSmemBytes) +
                      " bytes of dynamic shared memory; the kernel may have " +
                      std::to_string(function.sharedBytes));
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const char* signature,
                   void (*run)(const void*), const void* body) {
  const std::lock_guard<std::recursive_mutex> lock(gMutex);
  bool wrongCluster = false;
  const unsigned cluster = clusterSize(config, &wrongCluster);
  const cudaError_t error = checkLaunch(config, gFunctions[kernel], cluster, wrongCluster);
  if (error != cudaSuccess) return error;
  const dim3 block = config.blockDim;
  const unsigned blocks = kMultiprocessors * blocksPerMultiprocessor(block.x * block.y * block.z,
                                                                     config.dynamicSmemBytes);
  Launch launch{};
  launch.grid = {config.gridDim.x, config.gridDim.y, config.gridDim.z};
  launch.block = {block.x, block.y, block.z};
  launch.computeCapability = emulatedDevice().capability;
  launch.clusterBlocks = cluster;
  launch.dynamicBytes = config.dynamicSmemBytes;
  launch.residentClusters = std::max(blocks / cluster, 1U);
  launch.kernel = nameKernel(kernel, signature);
  launch.run = run;
  launch.body = body;
  if (isCooperative(config) && uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z > blocks) {
    return report(cudaErrorCooperativeLaunchTooLarge, "more blocks than the device holds at once");
  }
  gKernels += launch.kernel + '\n';
  gClusters += std::to_string(cluster) + '\n';
  Machine machine(launch, seed());
  const FaultGuard guard;
  if (machine.run()) return cudaSuccess;
  return report(cudaErrorLaunchFailure, launch.kernel + ": " + machine.message());
}

}  // namespace emulation

// ---- the runtime's API -------------------------------------------------------------------------

using namespace emulation;

cudaError_t cudaPeekAtLastError() { return gLastError; }
cudaError_t cudaGetLastError() { return std::exchange(gLastError, cudaSuccess); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorInvalidClusterSize:
      return "cudaErrorInvalidClusterSize";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    default:
      return "another error";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : gLastMessage.c_str();
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return report(cudaErrorInvalidDevice, "there is one device");
  const bool hopper = emulatedDevice().capability >= 90;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = emulatedDevice().capability / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = emulatedDevice().capability % 10;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = emulatedDevice().multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = hopper ? kMaxShared : 163 * 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = hopper ? kMultiprocessorShared : 164 * 1024;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kMaxThreadsPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = 50 * 1024 * 1024;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      return cudaSuccess;
  }
  return report(cudaErrorInvalidValue, "an attribute that the emulation does not know");
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t) {
  std::memset(target, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  std::memcpy(target, source, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* target, size_t targetPitch, const void* source,
                              size_t sourcePitch, size_t width, size_t height, cudaMemcpyKind,
                              cudaStream_t) {
  if (width > std::min(targetPitch, sourcePitch) ||
      std::max(targetPitch, sourcePitch) > INT32_MAX) {
    return report(cudaErrorInvalidValue, "a pitch below the width of a row, or of 2 GiB or more");
  }
  for (size_t row = 0; row < height; ++row) {
    std::memcpy(static_cast<char*>(target) + row * targetPitch,
                static_cast<const char*>(source) + row * sourcePitch, width);
  }
  return cudaSuccess;
}

// The kernels count as compiled for GSPN2_EMULATION_IMAGE, or else for the device.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const std::lock_guard<std::recursive_mutex> lock(gMutex);
  const char* const image = std::getenv("GSPN2_EMULATION_IMAGE");
  *attributes = {};
  attributes->maxDynamicSharedSizeBytes = gFunctions[kernel].sharedBytes;
  attributes->ptxVersion = image != nullptr ? std::atoi(image) : emulatedDevice().capability;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const std::lock_guard<std::recursive_mutex> lock(gMutex);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    int most = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    if (value < 0 || value > most) {
      return report(cudaErrorInvalidValue, std::to_string(value) +
                                               " bytes of dynamic shared memory; at most " +
                                               std::to_string(most));
    }
    gFunctions[kernel].sharedBytes = std::max(value, kDefaultShared);
  } else if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) {
    gFunctions[kernel].largeClusters = value != 0;
  }
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t sharedBytes) {
  *blocks = blocksPerMultiprocessor(static_cast<unsigned>(threads), sharedBytes);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*,
                                           const cudaLaunchConfig_t* config) {
  bool wrong = false;
  const unsigned size = clusterSize(*config, &wrong);
  const dim3 block = config->blockDim;
  const int blocks = blocksPerMultiprocessor(block.x * block.y * block.z, config->dynamicSmemBytes);
  // As measured on an H200 for one block to a multiprocessor: 66, 30, 15 and 7; docs/kernels.md.
  const int groups =
      size <= 2 ? kMultiprocessors / static_cast<int>(size) : 120 / static_cast<int>(size);
  *clusters = wrong ? 0 : groups * blocks;
  constexpr unsigned kPortable = 8;
  if (const int large = emulatedDevice().largeClusters; size > kPortable && large != -1) {
    if (large < 0) return report(cudaErrorInvalidClusterSize, "no clusters of so many blocks");
    *clusters = large;
  }
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool known = std::string(name) == "cuTensorMapEncodeTiled";
  *function = known ? reinterpret_cast<void*>(cuTensorMapEncodeTiled) : nullptr;
  *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// ---- the tests' API ----------------------------------------------------------------------------

const char* gspn2_emulation_take_kernels() {
  const std::lock_guard<std::recursive_mutex> lock(gMutex);
  gTakenKernels = std::exchange(gKernels, std::string());
  return gTakenKernels.c_str();
}

const char* gspn2_emulation_take_clusters() {
  const std::lock_guard<std::recursive_mutex> lock(gMutex);
  gTakenClusters = std::exchange(gClusters, std::string());
  return gTakenClusters.c_str();
}
