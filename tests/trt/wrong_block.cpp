// A kernel library that is wrong in some blocks: preloaded (LD_PRELOAD), it leaves the weights m of
// the merge out of each gspn2_prop2d on maps of WRONG_HEIGHT x WRONG_WIDTH, and passes everything
// else on as it is. An engine that runs so computes something else than its file says.
//
//   c++ -shared -fPIC -DWRONG_HEIGHT=4 -DWRONG_WIDTH=4 -I plugins/include ...
#include <dlfcn.h>

#include "gspn2/kernels.h"

extern "C" gspn2_status_t gspn2_prop2d(const gspn2_problem_t* problem,
                                       const gspn2_strides_t* strides, const void* x,
                                       const void* lam, const void* w, const void* u, const void* d,
                                       const void* m, void* y, void* workspace,
                                       size_t workspace_bytes, gspn2_stream_t stream) {
  // The library that the plugin was linked to; it is not of the scope that RTLD_NEXT looks through.
  static void* const library = dlopen("libgspn2_kernels.so", RTLD_NOW | RTLD_NOLOAD);
  static const auto call = reinterpret_cast<decltype(&gspn2_prop2d)>(
      library != nullptr ? dlsym(library, "gspn2_prop2d") : nullptr);
  if (call == nullptr) return GSPN2_UNSUPPORTED;
  const bool wrong = problem != nullptr && problem->h == WRONG_HEIGHT && problem->w == WRONG_WIDTH;
  return call(problem, strides, x, lam, w, u, d, wrong ? nullptr : m, y, workspace, workspace_bytes,
              stream);
}
