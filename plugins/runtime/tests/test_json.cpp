#include "harness.h"
#include "json.h"

namespace gspn2 {
namespace runtime {
namespace tests {

void checkBad(const std::string& text) {
  try {
    Json::parse(text);
  } catch (const JsonError&) {
    return;
  }
  throw CheckFailed("accepted: " + text);
}

GSPN2_TEST(jsonValues) {
  const Json value = Json::parse(
      " {\"a\": [1, -20, true, false, null], \"b\": {\"c\": \"d\"}, \"e\": {}, \"f\": [],"
      " \"g\": 1.5e+3, \"h\": 9223372036854775807}\n");
  const auto& items = value.at("a").items();
  CHECK_EQ(items.size(), 5U);
  CHECK_EQ(items[0].asInteger(), 1);
  CHECK_EQ(items[1].asInteger(), -20);
  CHECK(items[2].asBool());
  CHECK(!items[3].asBool());
  CHECK(items[4].isNull());
  CHECK_EQ(value.at("b").at("c").asString(), "d");
  CHECK(value.at("e").members().empty());
  CHECK(value.at("f").items().empty());
  CHECK_EQ(value.at("h").asInteger(), INT64_MAX);
  CHECK(value.find("z") == nullptr);
}

GSPN2_TEST(jsonStrings) {
  CHECK_EQ(Json::parse(R"("\"\\\/\b\f\n\r\t")").asString(), "\"\\/\b\f\n\r\t");
  CHECK_EQ(Json::parse(R"("\u0041\u00e9\u20AC\uD83D\uDE00")").asString(),
           "A\u00e9\u20ac\U0001F600");
  CHECK_EQ(Json::parse("\"\u00e9\"").asString(), "\u00e9");
  CHECK_EQ(Json::parse(R"("a\u0000b")").asString().size(), 3U);
}

GSPN2_TEST(jsonRefusesWhatIsNotJson) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[",
                           "[1",
                           "[1,",
                           "[1,]",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":1",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{1:1}",
                           "tru",
                           "nul",
                           "nulls",
                           "01",
                           "-",
                           "+1",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "0x1",
                           "NaN",
                           "Infinity",
                           "\"",
                           "\"\\",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "\"\n\"",
                           "1 2",
                           "{} x",
                           "{\"a\":1,\"a\":2}"}) {
    checkBad(text);
  }
  checkBad(std::string(100, '['));
  checkBad(std::string(100, '[') + std::string(100, ']'));
}

// Cut anywhere, a text is refused; it never reads past its end.
GSPN2_TEST(jsonRefusesEveryTruncation) {
  const std::string whole = R"({"a": [1.5, "\u00e9\n", {"b": null}], "c": true})";
  Json::parse(whole);
  for (size_t length = 0; length < whole.size(); ++length) checkBad(whole.substr(0, length));
}

GSPN2_TEST(jsonTypesAreChecked) {
  const Json value = Json::parse(R"({"a": "1", "b": 1.5, "c": 9223372036854775808})");
  for (const std::function<void()>& body : std::vector<std::function<void()>>{
           [&] { value.asInteger(); }, [&] { value.items(); }, [&] { value.asBool(); },
           [&] { value.at("a").asInteger(); }, [&] { value.at("b").asInteger(); },
           [&] { value.at("c").asInteger(); }, [&] { value.at("b").asString(); },
           [&] { value.at("a").members(); }, [&] { value.at("z"); }}) {
    bool refused = false;
    try {
      body();
    } catch (const JsonError&) {
      refused = true;
    }
    CHECK(refused);
  }
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
