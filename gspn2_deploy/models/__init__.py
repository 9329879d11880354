"""GSPN-2 models: a registry, checkpoints, and counts of parameters and MACs."""

from __future__ import annotations

from gspn2_deploy.models.config import ModelConfig
from gspn2_deploy.models.gspn2 import Gspn2
from gspn2_deploy.models.registry import create_model, list_models, register_model

__all__ = ["Gspn2", "ModelConfig", "create_model", "list_models", "register_model"]
