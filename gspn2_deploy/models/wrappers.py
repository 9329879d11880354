"""The model inside what PyTorch wraps around one to compile it or to spread it over devices."""

from __future__ import annotations

import logging
import sys

from torch import nn

_LOG = logging.getLogger(__name__)


def unwrap(model: nn.Module) -> nn.Module:
    """Take off ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``, in any order.

    They compute what the model inside computes, under other parameter names and with a ``forward``
    that hides the model's own.

    Args:
        model: Any module.

    Returns:
        The module inside, which shares its parameters with the wrapper; the module itself where it
        is not wrapped.
    """
    while (inner := _inside(model)) is not None:
        _LOG.info("taking the %s inside %s", type(inner).__name__, type(model).__name__)
        model = inner
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    inner = None
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = model.module
    elif dynamo := sys.modules.get("torch._dynamo"):  # absent: nothing has been compiled
        inner = model._orig_mod if isinstance(model, dynamo.OptimizedModule) else None
    return inner if isinstance(inner, nn.Module) else None
