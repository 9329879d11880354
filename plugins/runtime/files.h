#ifndef GSPN2_RUNTIME_FILES_H_
#define GSPN2_RUNTIME_FILES_H_

#include <string>

namespace gspn2 {
namespace runtime {

// The whole content. Throws Error(kFile) naming `what` the file is.
std::string readFile(const std::string& path, const std::string& what);

// The path of a file in a folder.
std::string within(const std::string& folder, const std::string& name);

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_FILES_H_
