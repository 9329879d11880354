#!/usr/bin/env bash
# Packs what gpu_day.py needs on a GPU machine without a network, into parts small enough to carry:
# TensorRT's headers, TensorRT 8.6 with its Python (a kit that holds lib/, site/ and python/), and the
# wheels that gspn2-deploy needs in that Python, pycuda among them, which is compiled here.
#
#   pack_gpu_day.sh KIT_TAR UNPACK_KIT OUT [PART_BYTES]
#
#   KIT_TAR     the kit, packed; UNPACK_KIT KIT_TAR FOLDER unpacks it
#   OUT         gets part.00, part.01, ...
# Needs python3.11 with pip, gcc, CUDA's headers and nvcc, TensorRT's headers under /opt/tensorrt, and
# a package index. The wheels are kept in OUT/wheels for the next call.
set -euo pipefail
[[ $# -ge 3 ]] || { grep '^#' "$0" >&2; exit 2; }
kit=$(realpath "$1") unpack=$(realpath "$2") out=$3 part_bytes=${4:-60000000}
mkdir -p "$out/wheels"
out=$(realpath "$out")
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
cuda=${CUDA_HOME:-/usr/local/cuda}

if ! compgen -G "$out/wheels/pycuda-*" >/dev/null; then
  python3.11 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet setuptools wheel 'numpy>=2'
  "$work/venv/bin/pip" download --quiet --no-deps --no-binary :all: --no-build-isolation \
    -d "$work" pycuda==2026.1
  tar -C "$work" -xzf "$work"/pycuda-*.tar.gz
  # The driver's library is only there on a machine with a GPU: a stand-in is enough to link.
  echo 'void cuInit(void) {}' > "$work/stub.c"
  gcc -shared -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so" "$work/stub.c"
  export PATH="$work/venv/bin:$PATH:$cuda/bin"
  (cd "$work"/pycuda-*/ &&
    python configure.py --cuda-root="$cuda" --cuda-inc-dir="$cuda/include" \
      --cudadrv-lib-dir="$work" --no-cuda-enable-curand &&
    CUDA_ROOT="$cuda" pip wheel --quiet --no-deps --no-build-isolation -w "$out/wheels" .)
fi
if ! compgen -G "$out/wheels/onnxruntime-*" >/dev/null; then
  platforms=()
  for tag in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
  python3.11 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
    --python-version 3.11 "${platforms[@]}" --platform manylinux2014_x86_64 -d "$out/wheels" \
    numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 protobuf ml_dtypes flatbuffers packaging \
    click pyyaml rich markdown-it-py mdurl pygments safetensors typing_extensions \
    pytools platformdirs siphash24 mako markupsafe
fi

mkdir "$work/headers"
for folder in /opt/tensorrt/*/; do
  mkdir -p "$work/headers/$(basename "$folder")"
  cp -r "$folder/include" "$work/headers/$(basename "$folder")/"
done
tar -C "$work/headers" -czf "$work/headers.tar.gz" .
ln -s "$kit" "$work/kit.tar"
ln -s "$unpack" "$work/unpack_kit.sh"
ln -s "$out/wheels" "$work/wheels"
rm -f "$out"/part.*
# The headers first: they are read out of part.00 while the others are on their way.
tar -C "$work" -chf - headers.tar.gz unpack_kit.sh wheels kit.tar |
  split -b "$part_bytes" -d -a 2 - "$out/part."
ls -l "$out"/part.*
