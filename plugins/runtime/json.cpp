#include "json.h"

#include <cerrno>
#include <cstdlib>

namespace gspn2 {
namespace runtime {
namespace {

constexpr int kMaxDepth = 64;

const char* typeName(Json::Type type) {
  constexpr const char* kNames[] = {"null",     "a boolean", "a number",
                                    "a string", "an array",  "an object"};
  return kNames[static_cast<int>(type)];
}

bool isDigit(char c) { return c >= '0' && c <= '9'; }

void appendUtf8(uint32_t code, std::string& text) {
  const auto push = [&text](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xC0 | (code >> 6));
    push(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    push(0xE0 | (code >> 12));
    push(0x80 | ((code >> 6) & 0x3F));
    push(0x80 | (code & 0x3F));
  } else {
    push(0xF0 | (code >> 18));
    push(0x80 | ((code >> 12) & 0x3F));
    push(0x80 | ((code >> 6) & 0x3F));
    push(0x80 | (code & 0x3F));
  }
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(const std::string& text) : mText(text) {}

  Json parse() {
    Json value = parseValue(0);
    skipSpace();
    if (mAt != mText.size()) fail("something follows the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw JsonError("byte " + std::to_string(mAt) + ": " + what);
  }

  char peek() const { return mAt < mText.size() ? mText[mAt] : '\0'; }

  char next() {
    if (mAt >= mText.size()) fail("the text ends early");
    return mText[mAt++];
  }

  void skipSpace() {
    while (mAt < mText.size() && std::string(" \t\n\r").find(mText[mAt]) != std::string::npos) {
      ++mAt;
    }
  }

  bool take(char wanted) {
    if (mAt >= mText.size() || mText[mAt] != wanted) return false;
    ++mAt;
    return true;
  }

  void expectWord(const char* word) {
    for (; *word != '\0'; ++word) {
      if (!take(*word)) fail("a value was expected");
    }
  }

  Json parseValue(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    skipSpace();
    Json value;
    switch (peek()) {
      case '{':
        parseObject(value, depth);
        break;
      case '[':
        parseArray(value, depth);
        break;
      case '"':
        value.mType = Json::Type::kString;
        value.mText = parseString();
        break;
      case 't':
      case 'f':
        value.mType = Json::Type::kBool;
        value.mBool = peek() == 't';
        expectWord(value.mBool ? "true" : "false");
        break;
      case 'n':
        expectWord("null");
        break;
      default:
        value.mType = Json::Type::kNumber;
        value.mText = parseNumber();
    }
    return value;
  }

  void parseObject(Json& value, int depth) {
    value.mType = Json::Type::kObject;
    next();
    skipSpace();
    if (take('}')) return;
    do {
      skipSpace();
      if (peek() != '"') fail("a key was expected");
      std::string key = parseString();
      skipSpace();
      if (!take(':')) fail("a colon was expected");
      Json member = parseValue(depth + 1);
      if (!value.mMembers.emplace(key, std::move(member)).second) fail("\"" + key + "\" twice");
      skipSpace();
    } while (take(','));
    if (!take('}')) fail("a comma or } was expected");
  }

  void parseArray(Json& value, int depth) {
    value.mType = Json::Type::kArray;
    next();
    skipSpace();
    if (take(']')) return;
    do {
      value.mItems.push_back(parseValue(depth + 1));
      skipSpace();
    } while (take(','));
    if (!take(']')) fail("a comma or ] was expected");
  }

  std::string parseString() {
    std::string text;
    next();
    for (char c = next(); c != '"'; c = next()) {
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c == '\\') {
        parseEscape(text);
      } else {
        text.push_back(c);
      }
    }
    return text;
  }

  void parseEscape(std::string& text) {
    static const std::string kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const char c = next();
    const size_t index = kFrom.find(c);
    if (index != std::string::npos) {
      text.push_back(kTo[index]);
    } else if (c == 'u') {
      appendUtf8(parseCodePoint(), text);
    } else {
      fail("an unknown escape");
    }
  }

  uint32_t parseCodePoint() {
    const uint32_t first = parseHex();
    if (first < 0xD800 || first > 0xDFFF) return first;
    if (first > 0xDBFF || !take('\\') || !take('u')) fail("half of a surrogate pair");
    const uint32_t second = parseHex();
    if (second < 0xDC00 || second > 0xDFFF) fail("half of a surrogate pair");
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  uint32_t parseHex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = next();
      uint32_t digit = 0;
      if (isDigit(c)) {
        digit = static_cast<uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<uint32_t>(c - 'a') + 10;
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<uint32_t>(c - 'A') + 10;
      } else {
        fail("four hexadecimal digits were expected");
      }
      code = code * 16 + digit;
    }
    return code;
  }

  void skipDigits() {
    if (!isDigit(peek())) fail("a value was expected");
    while (isDigit(peek())) ++mAt;
  }

  std::string parseNumber() {
    const size_t begin = mAt;
    take('-');
    if (!take('0')) skipDigits();
    if (take('.')) skipDigits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      skipDigits();
    }
    return mText.substr(begin, mAt - begin);
  }

  const std::string& mText;
  size_t mAt = 0;
};

Json Json::parse(const std::string& text) { return JsonParser(text).parse(); }

void Json::require(Type type) const {
  if (mType != type) {
    throw JsonError(std::string(typeName(type)) + " was expected, not " + typeName(mType));
  }
}

bool Json::asBool() const {
  require(Type::kBool);
  return mBool;
}

int64_t Json::asInteger() const {
  require(Type::kNumber);
  errno = 0;
  char* end = nullptr;
  const long long value = std::strtoll(mText.c_str(), &end, 10);
  if (errno != 0 || *end != '\0') throw JsonError(mText + " is not a whole number of 64 bits");
  return value;
}

const std::string& Json::asString() const {
  require(Type::kString);
  return mText;
}

const std::vector<Json>& Json::items() const {
  require(Type::kArray);
  return mItems;
}

const Json::Members& Json::members() const {
  require(Type::kObject);
  return mMembers;
}

const Json& Json::at(const std::string& key) const {
  const Json* found = find(key);
  if (found == nullptr) throw JsonError("\"" + key + "\" is missing");
  return *found;
}

const Json* Json::find(const std::string& key) const {
  const auto found = members().find(key);
  return found == members().end() ? nullptr : &found->second;
}

}  // namespace runtime
}  // namespace gspn2
