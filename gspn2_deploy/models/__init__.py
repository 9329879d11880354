"""GSPN-2 models: a registry, checkpoints, and counts of parameters and MACs."""

from __future__ import annotations

from gspn2_deploy.models.checkpoint import (
    LoadReport,
    load_checkpoint,
    model_from_checkpoint,
    save_checkpoint,
)
from gspn2_deploy.models.config import ModelConfig
from gspn2_deploy.models.counting import count_macs, count_parameters
from gspn2_deploy.models.gspn2 import Gspn2
from gspn2_deploy.models.registry import create_model, list_models, register_model

__all__ = [
    "Gspn2",
    "LoadReport",
    "ModelConfig",
    "count_macs",
    "count_parameters",
    "create_model",
    "list_models",
    "load_checkpoint",
    "model_from_checkpoint",
    "register_model",
    "save_checkpoint",
]
