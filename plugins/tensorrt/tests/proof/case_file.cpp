#include "case_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace gspn2 {
namespace proof {
namespace {

std::vector<uint8_t> readBytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

Shape readShape(std::istream& line) {
  std::string text;
  line >> text;
  Shape shape;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, 'x');) shape.push_back(std::stoll(part));
  return shape;
}

ExpectedOutput readOutput(const std::string& folder, std::istream& line) {
  ExpectedOutput output;
  std::string file;
  line >> output.name;
  output.shape = readShape(line);
  line >> file >> output.rtol >> output.atol;
  if (line.fail()) throw std::runtime_error(folder + "/case.txt: incomplete output " + output.name);
  const std::vector<uint8_t> bytes = readBytes(folder + "/" + file);
  if (bytes.size() != sizeof(float) * static_cast<size_t>(elements(output.shape))) {
    throw std::runtime_error(file + " does not hold " + toString(output.shape) + " floats");
  }
  output.values.resize(bytes.size() / sizeof(float));
  std::memcpy(output.values.data(), bytes.data(), bytes.size());
  return output;
}

Field readField(const std::string& text) {
  const size_t sign = text.find('=');
  if (sign == std::string::npos || sign + 1 == text.size()) {
    throw std::runtime_error("case.txt: the field " + text + " has no value");
  }
  Field field;
  field.name = text.substr(0, sign);
  const std::string value = text.substr(sign + 1);
  if (value.find_first_of("0123456789-") != 0) {
    field.text = value;
  } else if (value.find_first_of(".e") != std::string::npos) {
    field.reals.push_back(std::stof(value));
  } else {
    std::istringstream parts(value);
    for (const int64_t part : readShape(parts)) {
      field.integers.push_back(static_cast<int32_t>(part));
    }
  }
  return field;
}

Node readNode(std::istream& line) {
  Node node;
  std::string outputs, format, fields;
  line >> node.op >> outputs >> format >> fields;
  node.vectorised = format == "hwc8";
  if (line.fail() || (format != "linear" && !node.vectorised)) {
    throw std::runtime_error("case.txt: incomplete node " + node.op);
  }
  std::istringstream names(outputs);
  for (std::string output; std::getline(names, output, ',');) node.outputs.push_back(output);
  std::istringstream list(fields == "-" ? "" : fields);
  for (std::string field; std::getline(list, field, ',');) node.fields.push_back(readField(field));
  for (std::string input; line >> input;) node.inputs.push_back(input);
  line.clear();
  return node;
}

void readLine(const std::string& folder, const std::string& keyword, std::istream& line,
              Case* result) {
  if (keyword == "model") {
    line >> result->model;
    result->model = folder + "/" + result->model;
  } else if (keyword == "precision") {
    line >> result->precision;
  } else if (keyword == "plugins") {
    line >> result->plugins;
  } else if (keyword == "node") {
    result->nodes.push_back(readNode(line));
  } else if (keyword == "profile") {
    ProfileRange range;
    line >> range.input;
    range.smallest = readShape(line);
    range.tuned = readShape(line);
    range.largest = readShape(line);
    result->profile.push_back(range);
  } else if (keyword == "sample") {
    result->samples.emplace_back();
    line >> result->samples.back().name;
  } else if (keyword == "input") {
    InputData input;
    std::string file;
    line >> input.name;
    input.shape = readShape(line);
    line >> file;
    input.bytes = readBytes(folder + "/" + file);
    result->samples.back().inputs.push_back(input);
  } else if (keyword == "output") {
    result->samples.back().outputs.push_back(readOutput(folder, line));
  } else {
    throw std::runtime_error(folder + "/case.txt: unknown item " + keyword);
  }
  if (line.fail()) throw std::runtime_error(folder + "/case.txt: incomplete item " + keyword);
}

}  // namespace

int64_t elements(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::string toString(const Shape& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text;
}

int64_t ownChannels(const Node& node) {
  for (const Field& field : node.fields) {
    if (field.name == "channels") return field.integers[0];
  }
  return 0;
}

bool hasVectorisedOutputs(const Node& node) { return node.vectorised && ownChannels(node) == 0; }

Case readCase(const std::string& folder) {
  std::ifstream stream(folder + "/case.txt");
  if (!stream) throw std::runtime_error("no case.txt in " + folder);
  Case result;
  result.name = folder.substr(folder.find_last_of('/') + 1);
  for (std::string text; std::getline(stream, text);) {
    std::istringstream line(text);
    std::string keyword;
    if (line >> keyword) readLine(folder, keyword, line, &result);
  }
  const bool complete = result.model.empty() ? !result.nodes.empty() : result.plugins >= 1;
  if (!complete || result.samples.empty()) {
    throw std::runtime_error(folder + "/case.txt lacks a model with plugins, nodes or samples");
  }
  return result;
}

double worstError(const std::vector<float>& got, const ExpectedOutput& expected) {
  const double failed = std::numeric_limits<double>::infinity();
  if (got.size() != expected.values.size() || got.empty()) return failed;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(expected.values[i])) return failed;
    const double value = expected.values[i];
    const double allowed = expected.rtol * std::abs(value) + expected.atol;
    worst = std::max(worst, std::abs(got[i] - value) / allowed);
  }
  return worst;
}

}  // namespace proof
}  // namespace gspn2
