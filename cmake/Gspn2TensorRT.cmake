# Finds TensorRT headers.
#
#   TENSORRT_ROOT          one installation (its include/ holds NvInferRuntime.h); a CMake or an
#                          environment variable
#   GSPN2_TENSORRT_ROOTS   several, separated by semicolons; default: TENSORRT_ROOT where it is set,
#                          else every /opt/tensorrt/<version>
include_guard(GLOBAL)
set(GSPN2_TENSORRT_ROOTS "" CACHE STRING "TensorRT installations to build against")

# Reads major.minor.patch out of NvInferVersion.h, whose macros are numbers or name other macros.
function(gspn2_read_tensorrt_version header result)
  file(STRINGS "${header}" lines REGEX "^#define [A-Z_]+ [A-Z0-9_]+")
  set(parts "")
  foreach(part MAJOR MINOR PATCH)
    set(value "NV_TENSORRT_${part}")
    foreach(hop RANGE 2)
      if(lines MATCHES "#define ${value} ([A-Z0-9_]+)")
        set(value "${CMAKE_MATCH_1}")
      endif()
    endforeach()
    list(APPEND parts "${value}")
  endforeach()
  list(JOIN parts "." version)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# Sets ${result} to the roots that hold headers, and ${result}_VERSIONS to their versions.
function(gspn2_find_tensorrt result)
  set(searched ${GSPN2_TENSORRT_ROOTS})
  if(NOT searched AND TENSORRT_ROOT)
    set(searched "${TENSORRT_ROOT}")
  elseif(NOT searched AND DEFINED ENV{TENSORRT_ROOT})
    set(searched "$ENV{TENSORRT_ROOT}")
  elseif(NOT searched)
    file(GLOB searched LIST_DIRECTORIES true /opt/tensorrt/*)
  endif()
  set(roots "")
  set(versions "")
  foreach(root IN LISTS searched)
    if(EXISTS "${root}/include/NvInferRuntime.h")
      gspn2_read_tensorrt_version("${root}/include/NvInferVersion.h" version)
      list(APPEND roots "${root}")
      list(APPEND versions "${version}")
    endif()
  endforeach()
  set(${result} "${roots}" PARENT_SCOPE)
  set(${result}_VERSIONS "${versions}" PARENT_SCOPE)
endfunction()
