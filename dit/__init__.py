"""Diffusion Transformers: create, train, sample, evaluate and publish every class-conditional DiT.

The names below are loaded on first use, so that `import dit` does not import torch.
"""

from typing import TYPE_CHECKING

from dit.lazy import lazy

if TYPE_CHECKING:
    from dit.data.registry import register_data
    from dit.diffusion.process import drop_labels
    from dit.evaluation.features import register_features
    from dit.models.families import register_family
    from dit.sampling.solvers import register_solver
    from dit.zoo.create import create_model
    from dit.zoo.entries import list_models
    from dit.zoo.load import load_model
    from dit.zoo.pipeline import Pipeline, load_pipeline

__version__ = "0.1.0"
__all__ = [
    "Pipeline",
    "create_model",
    "drop_labels",
    "list_models",
    "load_model",
    "load_pipeline",
    "register_data",
    "register_family",
    "register_features",
    "register_solver",
]

_HOMES = {
    "Pipeline": "dit.zoo.pipeline",
    "create_model": "dit.zoo.create",
    "drop_labels": "dit.diffusion.process",
    "list_models": "dit.zoo.entries",
    "load_model": "dit.zoo.load",
    "load_pipeline": "dit.zoo.pipeline",
    "register_data": "dit.data.registry",
    "register_family": "dit.models.families",
    "register_features": "dit.evaluation.features",
    "register_solver": "dit.sampling.solvers",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
