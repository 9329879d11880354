// What a cluster of GspnProp2D reads of a slice and direction, from tensors in planes or from ones
// with the channels of a position side by side (GSPN2_NHWC8): their rows, as norms call them.
#ifndef GSPN2_KERNELS_ONCHIP_ROWS_CUH_
#define GSPN2_KERNELS_ONCHIP_ROWS_CUH_

#include "onchip_scan.cuh"

namespace gspn2 {

// The gates of adjacent columns; d and x where there is a skip gate.
template <typename T, int kVector, int kChannels>
struct OnchipGates {
  PackedVector<T, kVector> u[kChannels], d[kChannels], x[kChannels];
};

// The tensors of the first of kChannels channels, from a worker's first element on; d may be null.
template <typename T, int kVector, int kChannels>
struct OnchipPlanes {
  using Inputs = OnchipInputs<T, kVector, kChannels>;
  using Gates = OnchipGates<T, kVector, kChannels>;
  static constexpr bool kLoadsManyWords = false;

  OnchipSource<T, kVector, kChannels> source;
  const T *u, *d;

  __device__ __forceinline__ OnchipPlanes(const OnchipParams& p, const T* x, const T* lam,
                                          const T* w, const T* u_, const T* d_)
      : source{x, lam, w, p.height * p.width,
               static_cast<int64_t>(p.affinities) * (p.height * p.width)},
        u(u_),
        d(d_) {}

  __device__ __forceinline__ Inputs load(int offset) const { return source.load(offset); }
  __device__ __forceinline__ Gates loadGates(int offset) const {
    Gates gates;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      gates.u[c] = PackedVector<T, kVector>::read(u + c * source.elements + offset);
      if (d != nullptr) {
        gates.d[c] = PackedVector<T, kVector>::read(d + c * source.elements + offset);
        gates.x[c] = PackedVector<T, kVector>::read(source.x + c * source.elements + offset);
      }
    }
    return gates;
  }
  __device__ __forceinline__ const Inputs& unpack(const Inputs& inputs) const { return inputs; }
  __device__ __forceinline__ const Gates& unpack(const Gates& gates) const { return gates; }
};

// Adjacent channels of adjacent columns, in the words that they lie in: so loads are in flight
// until their values are asked for, and are as few as can be of any first channel. Two channels
// begin with a word.
template <typename T, int kVector, int kCount>
struct RowsVector {
  static_assert(sizeof(T) == 2 && kCount >= 1 && kCount <= 3, "unsupported elements");
  static constexpr int kWords = (kCount + 1) / 2;

  uint32_t words[kVector][kWords];

  // Whether the first channel is the second of its word: 0 or 1.
  __device__ __forceinline__ static unsigned isSecond(const T* source) {
    return kCount == 2 ? 0 : static_cast<unsigned>(reinterpret_cast<uintptr_t>(source) >> 1) & 1;
  }
  // `position`: elements from a column to the next, even.
  __device__ __forceinline__ static RowsVector read(const T* source, int position) {
    const auto* const first = reinterpret_cast<const uint32_t*>(source - isSecond(source));
    RowsVector vector;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) vector.words[v][i] = first[v * (position / 2) + i];
    }
    return vector;
  }

  // Each channel's values, as planes hold them. `source`: where they were read.
  __device__ __forceinline__ void unpack(const T* source,
                                         PackedVector<T, kVector>* (&channels)[kCount]) const {
    const unsigned shift = 16 * isSecond(source);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        // The second of three channels may lie in the next word.
        const uint64_t next = c + 1 < kCount ? words[v][kWords - 1] : 0;
        const auto pair = static_cast<uint32_t>((next << 32 | words[v][c / 2]) >> shift);
        const uint32_t half = c % 2 == 0 ? pair & 0xffffU : pair >> 16;
        uint32_t& target = channels[c]->words[v / 2];
        target = v % 2 == 0 ? half : target | half << 16;
      }
    }
  }
};

// The same of tensors in GSPN2_NHWC8; offsets are in positions. Affinities are shared.
template <typename T, int kVector, int kChannels>
struct OnchipRows {
  using Gate = RowsVector<T, kVector, kChannels>;
  struct Inputs {
    Gate x, lam;
    RowsVector<T, kVector, 3> w;
  };
  struct Gates {
    Gate u, d, x;
  };
  static constexpr bool kLoadsManyWords = true;

  const T *x, *lam, *w, *u, *d;
  int position;  // elements from a position to the next

  __device__ __forceinline__ OnchipRows(const OnchipParams& p, const T* x_, const T* lam_,
                                        const T* w_, const T* u_, const T* d_)
      : x(x_), lam(lam_), w(w_), u(u_), d(d_), position(p.position) {}

  __device__ __forceinline__ Inputs load(int offset) const {
    const int at = offset * position;
    return {Gate::read(x + at, position), Gate::read(lam + at, position),
            RowsVector<T, kVector, 3>::read(w + at, position)};
  }
  __device__ __forceinline__ Gates loadGates(int offset) const {
    const int at = offset * position;
    Gates gates;
    gates.u = Gate::read(u + at, position);
    if (d != nullptr) {
      gates.d = Gate::read(d + at, position);
      gates.x = Gate::read(x + at, position);
    }
    return gates;
  }

  __device__ __forceinline__ OnchipInputs<T, kVector, kChannels> unpack(
      const Inputs& inputs) const {
    OnchipInputs<T, kVector, kChannels> values;
    unpackGate(inputs.x, x, values.x);
    unpackGate(inputs.lam, lam, values.lam);
    PackedVector<T, kVector>* neighbours[] = {&values.minus, &values.centre, &values.plus};
    inputs.w.unpack(w, neighbours);
    return values;
  }
  __device__ __forceinline__ OnchipGates<T, kVector, kChannels> unpack(const Gates& gates) const {
    OnchipGates<T, kVector, kChannels> values;
    unpackGate(gates.u, u, values.u);
    if (d != nullptr) {
      unpackGate(gates.d, d, values.d);
      unpackGate(gates.x, x, values.x);
    }
    return values;
  }

 private:
  __device__ __forceinline__ static void unpackGate(const Gate& gate, const T* source,
                                                    PackedVector<T, kVector> (&values)[kChannels]) {
    PackedVector<T, kVector>* channels[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) channels[c] = &values[c];
    gate.unpack(source, channels);
  }
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ONCHIP_ROWS_CUH_
