// A reader for the two JSON files that gspn2-deploy writes. Strict where it matters: a repeated
// key, anything after the value, an unknown escape or a lone surrogate is an error.
#ifndef GSPN2_RUNTIME_JSON_H_
#define GSPN2_RUNTIME_JSON_H_

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace gspn2 {
namespace runtime {

class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  enum class Type { kNull, kBool, kNumber, kString, kArray, kObject };
  using Members = std::map<std::string, Json>;

  // Throws JsonError with the byte where it went wrong.
  static Json parse(const std::string& text);

  Type type() const { return mType; }
  bool isNull() const { return mType == Type::kNull; }

  // Each throws JsonError when the value is of another type. A number is kept as text: asInteger
  // takes those that are a whole number of 64 bits, and nothing here needs a fraction.
  bool asBool() const;
  int64_t asInteger() const;
  const std::string& asString() const;
  const std::vector<Json>& items() const;
  const Members& members() const;

  // A member of an object; throws JsonError when it is missing. find returns null instead.
  const Json& at(const std::string& key) const;
  const Json* find(const std::string& key) const;

 private:
  friend class JsonParser;
  void require(Type type) const;

  Type mType = Type::kNull;
  bool mBool = false;
  std::string mText;  // a string's content, a number's spelling
  std::vector<Json> mItems;
  Members mMembers;
};

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_JSON_H_
