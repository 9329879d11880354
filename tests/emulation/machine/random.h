// The seeded choices of the scheduler and of the copy engine.
#ifndef GSPN2_EMULATION_RANDOM_H_
#define GSPN2_EMULATION_RANDOM_H_

#include <cstdint>

namespace emulation {

// Source: splitmix64, Steele et al., "Fast splittable pseudorandom number generators", 2014.
inline uint64_t scramble(uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : mState(scramble(seed)) {}

  uint32_t next() {
    mState = mState * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<uint32_t>(mState >> 32);
  }
  // In [0, bound), bound > 0.
  uint32_t below(uint32_t bound) {
    return static_cast<uint32_t>(static_cast<uint64_t>(next()) * bound >> 32);
  }
  // True once in `times` on average; never for 0.
  bool once(uint32_t times) { return times != 0 && below(times) == 0; }

 private:
  uint64_t mState;
};

}  // namespace emulation
#endif  // GSPN2_EMULATION_RANDOM_H_
