// What is to be proven: a folder with an ONNX file, samples and expected outputs, as
// tests/trt/prepare_proof.py writes it.
//
// case.txt, one item a line:
//   model FILE                           absent where the nodes are proven without a network
//   precision fp32 | fp16 | bf16 | mixed
//   plugins COUNT                        plugin layers that the network must hold
//   node OP OUTPUTS FORMAT FIELDS INPUT...
//                                        one plugin layer; OUTPUTS as y or y,z, FORMAT of its first
//                                        input, and of its outputs where they are like it, is
//                                        linear or hwc8, FIELDS a list as
//                                        normalize=none,packed_offsets=-1x0x8x-1x16,epsilon=1e-06,
//                                        or
//                                        -
//   profile INPUT MIN OPT MAX            shapes as 1x3x8x8
//   sample NAME
//   input NAME SHAPE FILE                raw elements of the engine's own dtype
//   output NAME SHAPE FILE RTOL ATOL     raw float32 elements
#ifndef GSPN2_PROOF_CASE_FILE_H_
#define GSPN2_PROOF_CASE_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace gspn2 {
namespace proof {

using Shape = std::vector<int64_t>;

int64_t elements(const Shape& shape);
std::string toString(const Shape& shape);

struct ProfileRange {
  std::string input;
  Shape smallest, tuned, largest;
};

struct InputData {
  std::string name;
  Shape shape;
  std::vector<uint8_t> bytes;
};

// An element passes when |got - expected| <= rtol * |expected| + atol.
struct ExpectedOutput {
  std::string name;
  Shape shape;
  std::vector<float> values;
  double rtol, atol;
};

struct Sample {
  std::string name;
  std::vector<InputData> inputs;
  std::vector<ExpectedOutput> outputs;
};

// Has one of the three: reals, integers or a text.
struct Field {
  std::string name, text;
  std::vector<int32_t> integers;
  std::vector<float> reals;
};

// A plugin layer on its own, for a case whose samples hold all that goes in and out of it.
struct Node {
  std::string op;
  std::vector<std::string> outputs;
  bool vectorised = false;  // whether the first input has eight channels side by side
  std::vector<Field> fields;
  std::vector<std::string> inputs;
};

// C where the first input holds x and is not x, or else 0.
int64_t ownChannels(const Node& node);
// Whether the output has eight channels side by side: where the first input is x, and has.
bool hasVectorisedOutputs(const Node& node);

struct Case {
  std::string name;
  std::string model;  // path, or empty
  std::string precision;
  int plugins = 0;
  std::vector<Node> nodes;
  std::vector<ProfileRange> profile;
  std::vector<Sample> samples;
};

// Throws std::runtime_error when the folder does not hold a complete case.
Case readCase(const std::string& folder);

// The largest error in units of what the tolerance allows: up to 1 passes. Infinite where the
// result is not finite or nothing is compared.
double worstError(const std::vector<float>& got, const ExpectedOutput& expected);

}  // namespace proof
}  // namespace gspn2
#endif  // GSPN2_PROOF_CASE_FILE_H_
