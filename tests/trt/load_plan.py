"""Load a plan in a fresh process, with the plugin library or without it.

    load_plan.py PLAN [plugin=yes|no] [loads=yes|no]

Prints what came of it as JSON, with TensorRT's errors and what gspn2-deploy makes of them; exits
with 1 where the plan loads and should not, or the other way round.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tensorrt as trt

from gspn2_deploy.build.translate import translate
from gspn2_deploy.tensorrt_plugin import find_plugin, load_plugin


class Logger(trt.ILogger):
    """Keeps what is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, text: str) -> None:
        """Take a message."""
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(text)


def main() -> None:
    """Load what the command line names."""
    plan = Path(sys.argv[1])
    options = dict(argument.split("=") for argument in sys.argv[2:])
    logger = Logger()
    if options.get("plugin", "yes") == "yes":
        load_plugin(trt, find_plugin(trt.__version__))
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    error = None if engine else translate(logger.errors, "load the plan")
    said = {
        "loads": engine is not None,
        "layers": engine.num_layers if engine else None,
        "errors": logger.errors,
        "problem": error.problem if error else None,
        "fix": error.hint if error else None,
    }
    sys.stdout.write(json.dumps(said, indent=2) + "\n")
    sys.exit(0 if (engine is not None) == (options.get("loads", "yes") == "yes") else 1)


if __name__ == "__main__":
    main()
