#ifndef GSPN2_RUNTIME_SHA256_H_
#define GSPN2_RUNTIME_SHA256_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace gspn2 {
namespace runtime {

// SHA-256. Source: FIPS 180-4, sections 4.1.2, 4.2.2, 5.1.1, 5.3.3 and 6.2.2.
class Sha256 {
 public:
  void add(const void* data, size_t bytes);
  std::string hex();  // ends it

 private:
  void addBlock(const uint8_t* block);

  uint32_t mState[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t mBlock[64] = {};
  size_t mFilled = 0;
  uint64_t mBytes = 0;
};

std::string sha256(const void* data, size_t bytes);

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_SHA256_H_
