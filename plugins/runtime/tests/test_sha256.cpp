// Source of the vectors: FIPS 180-4 examples (NIST Cryptographic Standards and Guidelines).
#include "harness.h"
#include "sha256.h"

namespace gspn2 {
namespace runtime {
namespace tests {

std::string digest(const std::string& text) { return sha256(text.data(), text.size()); }

GSPN2_TEST(sha256KnownAnswers) {
  CHECK_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQ(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK_EQ(digest(std::string(1000000, 'a')),
           "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around a block's end, fed whole and in pieces.
GSPN2_TEST(sha256PiecesAreTheWhole) {
  for (size_t length = 0; length < 200; ++length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text.push_back(static_cast<char>(i * 7));
    Sha256 pieces;
    for (size_t at = 0; at < length; at += 13) {
      pieces.add(text.data() + at, std::min<size_t>(13, length - at));
    }
    CHECK_EQ(pieces.hex(), digest(text));
  }
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
