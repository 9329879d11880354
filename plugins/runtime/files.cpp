#include "files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "gspn2/runtime.hpp"

namespace gspn2 {
namespace runtime {

std::string readFile(const std::string& path, const std::string& what) {
  const auto refuse = [&] {
    throw Error(ErrorKind::kFile, what + " cannot be read", path + ": " + std::strerror(errno),
                "a readable file", "check the path and its permissions");
  };
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                       &std::fclose);
  if (file == nullptr) refuse();
  std::string content;
  if (std::fseek(file.get(), 0, SEEK_END) == 0) {
    const long size = std::ftell(file.get());
    // A folder says LONG_MAX; reading it fails below.
    if (size > 0 && size < (1L << 40)) content.reserve(static_cast<size_t>(size));
    std::rewind(file.get());
  }
  char block[1 << 16];
  while (const size_t count = std::fread(block, 1, sizeof(block), file.get())) {
    content.append(block, count);
  }
  if (std::ferror(file.get()) != 0) refuse();
  return content;
}

std::string within(const std::string& folder, const std::string& name) {
  return folder.empty() || folder.back() == '/' ? folder + name : folder + "/" + name;
}

}  // namespace runtime
}  // namespace gspn2
