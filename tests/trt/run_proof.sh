#!/usr/bin/env bash
# Proves the plugin on this machine's GPU. Needs no Python here.
#
#   run_proof.sh PLUGINS_DIR CASES_DIR OUT_DIR [TENSORRT_LIB_DIR]
#
#   PLUGINS_DIR       where `make plugin` builds: build/kernels/tensorrt
#   CASES_DIR         what tests/trt/prepare_proof.py wrote
#   OUT_DIR           gets proof.json and each engine's layers
#   TENSORRT_LIB_DIR  holds libnvinfer.so.8 and libnvonnxparser.so.8 of TensorRT 8.6: with it,
#                     engines are built and run; without it, the interfaces alone are driven
set -euo pipefail
[[ $# -eq 3 || $# -eq 4 ]] || { grep '^#' "$0" >&2; exit 2; }
mkdir -p "$3"
cases=("$2"/*/case.txt)
cases=("${cases[@]%/case.txt}")
failed=0
for program in "$1"/*/face_proof; do
  "$program" "${program%/face_proof}/libgspn2_tensorrt.so" "${cases[@]}" || failed=1
done
if [[ $# -eq 4 ]]; then
  export LD_LIBRARY_PATH="$4${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  for program in "$1"/8.*/engine_proof; do
    "$program" "${program%/engine_proof}/libgspn2_tensorrt.so" "$3" "${cases[@]}" || failed=1
  done
fi
exit "$failed"
