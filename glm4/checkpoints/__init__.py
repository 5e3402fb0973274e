"""Bytes on disk <-> named tensors of a model. Nothing that came with a checkpoint is ever executed."""

from ..jsonfile import read_json
from .architecture import Architecture, read_architecture
from .load import WeightPlan, build_empty, load_model_weights, plan_weights
from .save import save_checkpoint

__all__ = [
    "Architecture",
    "WeightPlan",
    "build_empty",
    "load_model_weights",
    "plan_weights",
    "read_architecture",
    "read_json",
    "save_checkpoint",
]
