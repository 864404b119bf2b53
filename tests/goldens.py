"""The golden tensors: what the original implementations return for small random networks (see goldens/README.md)."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from dit.models.dit.arguments import DiTArguments
from dit.models.dit.network import DiT

FOLDER = Path(__file__).parent / "goldens"


def load_tensors(name: str) -> dict[str, Tensor]:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict


def load_network(name: str) -> tuple[DiT, dict[str, Tensor]]:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        arguments = json.loads(file.metadata()["config"])
    tensors = load_tensors(name)
    model = DiT(DiTArguments(**arguments)).eval().requires_grad_(False)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    model.load_state_dict(state, strict=True)
    return model, tensors


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare relative to the largest entry, as the goldens' tolerances are stated."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * expected.abs().max().item())
