"""Runners: one interface over everything that can execute a model.

A runner turns named NumPy arrays into named NumPy arrays. Each lives in a module of its own and
imports its framework only when it is entered::

    with OnnxRuntimeRunner(path) as runner:
        outputs = runner.infer({"images": images})
"""

from gspn2_deploy.runners.base import Arrays, Runner

__all__ = ["Arrays", "Runner"]
