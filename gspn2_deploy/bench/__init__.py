"""How long a model takes in each executor, measured alike.

Importing this package loads neither PyTorch nor ONNX nor an engine library.
"""

from gspn2_deploy.bench.timing import Effort, Phases, Summary, summarise

__all__ = ["Effort", "Phases", "Summary", "summarise"]
