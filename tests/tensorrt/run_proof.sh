#!/usr/bin/env bash
# Builds engines with the plugin on this machine's GPU, runs them and compares: the proof that the
# plugin is right inside TensorRT. Needs no Python here.
#
#   run_proof.sh TENSORRT_LIB_DIR PLUGIN_DIR CASES_DIR OUT_DIR
#
#   TENSORRT_LIB_DIR  holds libnvinfer.so.8 and libnvonnxparser.so.8 of TensorRT 8.6
#   PLUGIN_DIR        one version's folder of `make plugin`: build/kernels/tensorrt/8.6
#   CASES_DIR         what tests/tensorrt/prepare_proof.py wrote
#   OUT_DIR           gets proof.json and each engine's layers
set -euo pipefail
[[ $# -eq 4 ]] || { grep '^#' "$0" >&2; exit 2; }
export LD_LIBRARY_PATH="$1${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
mkdir -p "$4"
cases=("$3"/*/case.txt)
exec "$2/engine_proof" "$2/libgspn2_tensorrt.so" "$4" "${cases[@]%/case.txt}"
