"""Deploy GSPN-2 vision models: export to ONNX, build engines, prove parity, embed.

Importing this package loads neither PyTorch nor ONNX nor TensorRT.
"""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

# In a source checkout the exporter lies beside this folder, as export/. With the checkout on the
# package's path, `python cli.py …` works there whatever is installed.
_CHECKOUT = Path(__file__).resolve().parents[1]
if (_CHECKOUT / "plugins" / "CMakeLists.txt").is_file():
    __path__.append(str(_CHECKOUT))
