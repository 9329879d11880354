# make demo   export, validate and build the trained example model; needs no GPU
# make test   run the tests
# make check  lint and type-check
# Each starts from Python 3.10 or newer and makes its own virtual environment.

PYTHON ?= python3
VENV ?= .venv
# One release, so that everyone runs what was measured. Where the package index has a CPU build of
# it, that is taken; nothing here needs more.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml Makefile 2>/dev/null | cksum | cut -d ' ' -f 1)

.PHONY: demo test check kernels plugin clean

demo: $(STAMP)
	$(BIN)/python examples/digits/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell $(shell git ls-files '*.py' '*.md' '*.toml' '*.h' '*.hpp' '*.cu' '*.cuh' '*.c' '*.cpp' '*.txt')
	$(BIN)/clang-format --dry-run --Werror $(shell git ls-files '*.h' '*.hpp' '*.cu' '*.cuh' '*.c' '*.cpp')

# The CUDA kernel library, into build/kernels. CUDA_ARCHITECTURES=90 shortens the build.
kernels: $(STAMP)
	$(BIN)/cmake -S plugins -B build/kernels -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  $(if $(CUDA_ARCHITECTURES),-DCMAKE_CUDA_ARCHITECTURES='$(CUDA_ARCHITECTURES)')
	$(BIN)/cmake --build build/kernels

# The TensorRT plugin and its test program, against every set of TensorRT headers found under
# /opt/tensorrt/<version> or TENSORRT_ROOT; the configuration's last lines name those not found.
plugin: $(STAMP)
	$(BIN)/cmake -S plugins -B build/kernels -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DGSPN2_BUILD_TESTS=ON \
	  $(if $(CUDA_ARCHITECTURES),-DCMAKE_CUDA_ARCHITECTURES='$(CUDA_ARCHITECTURES)')
	$(BIN)/cmake --build build/kernels --target gspn2_tensorrt_all

$(STAMP):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet '$(TORCH)'
	GSPN2_PURE_PYTHON=1 $(BIN)/pip install --quiet --editable '.[dev,tensorrt-rtx]'
	rm -f $(VENV)/.installed-*
	touch $@

clean:
	rm -rf $(VENV) build artifacts
