"""What a run folder says of the model that it trains.

    recipe.yaml    the recipe, with what the data decided filled in
    run.json       {model_arguments, codec, id2label, code_version}
    checkpoints/   step-XXXXXXXX/{model, ema, ...}.safetensors, state.json, manifest.json

Free of torch.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dit.checkpoint import Checkpoint
from dit.config import load_recipe
from dit.files import read_json
from dit.validation import validate
from dit.zoo.folder import FolderConfig, ModelDescription

RUN_NAME = "run.json"
RECIPE_NAME = "recipe.yaml"


class RunFacts(BaseModel):
    """The part of `run.json` that describes the model; training may write more."""

    model_arguments: dict[str, Any]
    """All arguments of the network."""
    codec: dict[str, Any]
    """Description of the latents."""
    id2label: dict[str, str]
    """Class id, in decimal, -> class name."""
    code_version: str
    """Version of this package."""


def is_run(folder: str | Path) -> bool:
    """Tell whether a folder is a run's."""
    return (Path(folder) / RUN_NAME).is_file()


def describe_run(run: str | Path, checkpoint: Checkpoint | None = None) -> FolderConfig:
    """Describe the model of a run as an exported folder would.

    Args:
        run: run folder.
        checkpoint: whose step and images go into the provenance.

    Raises:
        UserError: a file is missing or damaged; the file and the field are named.
    """
    run = Path(run)
    facts = validate(RunFacts, read_json(run / RUN_NAME), origin=str(run / RUN_NAME))
    recipe = load_recipe(run / RECIPE_NAME)
    provenance: dict[str, Any] = {
        "code_version": facts.code_version,
        "recipe": RECIPE_NAME,
        "seed": recipe.train.seed,
        "data": recipe.data.source,
    }
    if checkpoint is not None:
        provenance |= {"steps": checkpoint.step, "images_seen": checkpoint.step * recipe.train.batch_size}
    if recipe.model.pretrained:
        provenance["base_model"] = recipe.model.pretrained
    return FolderConfig(
        model=ModelDescription(name=recipe.model.name, arguments=facts.model_arguments),
        process=recipe.process,
        latents=facts.codec,
        sampling=recipe.sampling,
        id2label=facts.id2label,
        provenance=provenance,
    )
