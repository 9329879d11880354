"""gspn2::kernels as a C application finds it in an installed package.

The kernels themselves take minutes to compile. Here the package is configured and installed as
ever, and a library with names of the C ABI alone lies where the build would have put theirs.
"""

import shutil

import pytest
from runtime.runtime_build import ROOT, run

PRETENDED = """
#include "gspn2/kernels.h"
int gspn2_kernels_abi_version() { return GSPN2_KERNELS_ABI_VERSION; }
const char* gspn2_last_error() { return "a pretended library"; }
gspn2_status_t gspn2_prop2d_workspace(const gspn2_problem_t*, const gspn2_strides_t*, int,
                                      size_t* bytes) {
  return bytes == nullptr ? GSPN2_INVALID_ARGUMENT : GSPN2_SUCCESS;
}
"""

PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(consumer LANGUAGES C)
find_package(gspn2 0.1 REQUIRED COMPONENTS {components})
add_executable(consumer consumer.c)
target_link_libraries(consumer PRIVATE gspn2::kernels)
"""

CONSUMER = """
#include <gspn2/kernels.h>
#include <stdio.h>

int main(void) {
  const gspn2_problem_t problem = {1, 1, 8, 8, 1, 0, GSPN2_FLOAT32, GSPN2_NORMALIZE_SIGMOID};
  if (gspn2_kernels_abi_version() != GSPN2_KERNELS_ABI_VERSION) return 1;
  if (gspn2_prop2d_workspace(&problem, NULL, 0, NULL) != GSPN2_INVALID_ARGUMENT) return 2;
  puts(gspn2_last_error());
  return 0;
}
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An installation of the kernels alone: no TensorRT headers, so no plugin and no runtime."""
    for tool in ("cmake", "ninja", "c++", "nvcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("kernels")
    build, source, prefix = folder / "build", folder / "pretended.cpp", folder / "prefix"
    run(
        *("cmake", "-S", ROOT / "plugins", "-B", build, "-G", "Ninja"),
        *("-DCMAKE_CUDA_ARCHITECTURES=90", "-DCMAKE_INSTALL_LIBDIR=lib"),
        f"-DGSPN2_TENSORRT_ROOTS={folder / 'none'}",
    )
    source.write_text(PRETENDED)
    run(
        *("c++", "-shared", "-fPIC", "-Wl,-soname,libgspn2_kernels.so", source),
        *("-I", ROOT / "plugins/include", "-o", build / "libgspn2_kernels.so"),
    )
    run("cmake", "--install", build, "--prefix", prefix)
    return prefix


def configure_consumer(folder, prefix, components):
    (folder / "CMakeLists.txt").write_text(PROJECT.format(components=components))
    (folder / "consumer.c").write_text(CONSUMER)
    command = ("cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja")
    flags = "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
    return run(*command, f"-DCMAKE_PREFIX_PATH={prefix}", flags, check=False)


def test_a_c_application_links_the_kernels(prefix, tmp_path):
    result = configure_consumer(tmp_path, prefix, "kernels")
    assert result.returncode == 0, result.stderr
    run("cmake", "--build", tmp_path / "build")
    needed = run("readelf", "-d", tmp_path / "build/consumer").stdout
    assert "[libgspn2_kernels.so]" in needed
    assert run(tmp_path / "build/consumer").stdout == "a pretended library\n"


def test_a_package_of_kernels_has_no_runtime(prefix, tmp_path):
    result = configure_consumer(tmp_path, prefix, "kernels runtime")
    assert result.returncode != 0
    assert 'no component "runtime"' in result.stderr
