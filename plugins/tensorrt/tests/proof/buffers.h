// Device memory that notices writes past its ends, and what its bytes mean.
#ifndef GSPN2_PROOF_BUFFERS_H_
#define GSPN2_PROOF_BUFFERS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "trt.h"

namespace gspn2 {
namespace proof {

void checkCuda(cudaError_t error, const char* doing);

// Device memory with guard bands on both sides, all bytes 0xFF (a NaN in every float type). Work on
// the default stream is waited for: the streams that use the memory do not wait for it.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  void* data() const;
  size_t bytes() const { return mBytes; }
  // Fills the buffer; `bytes` are as many as it has.
  void upload(const std::vector<uint8_t>& bytes);
  void poison(cudaStream_t stream);
  // Whether a byte outside the buffer has changed.
  bool overrun() const;

 private:
  char* mBase = nullptr;
  size_t mBytes;
};

// Bytes of one element of float32, float16 or bfloat16; throws for another type.
size_t elementBytes(nvinfer1::DataType type);
// The bytes' values.
std::vector<float> toFloat(nvinfer1::DataType type, const std::vector<uint8_t>& bytes);

// A map (N, C, H, W) of two-byte elements with eight channels side by side, NaN behind the last
// one.
std::vector<uint8_t> toVectorised(const std::vector<uint8_t>& bytes,
                                  const std::vector<int64_t>& shape);
// Back; throws where what is behind the last channel is not 0.
std::vector<uint8_t> fromVectorised(const std::vector<uint8_t>& bytes,
                                    const std::vector<int64_t>& shape);

// What `enqueue` launches on the stream, recorded as a graph. The caller destroys it.
cudaGraphExec_t captureGraph(cudaStream_t stream, const std::function<void()>& enqueue);

}  // namespace proof
}  // namespace gspn2
#endif  // GSPN2_PROOF_BUFFERS_H_
