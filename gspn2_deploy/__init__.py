"""Deploy GSPN-2 vision models: export to ONNX, build engines, prove parity, embed.

Importing this package loads neither PyTorch nor ONNX nor TensorRT.
"""

from __future__ import annotations

__version__ = "0.1.0"
