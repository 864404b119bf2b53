"""From a run to an exported folder: the EMA weights of its newest checkpoint and all that is needed to use them."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dit.charts import draw_loss
from dit.checkpoint import load_newest
from dit.config import load_recipe
from dit.data.picture import image_grid
from dit.display import say
from dit.errors import DitError
from dit.figures import FIGURES_NAME
from dit.files import new_folder
from dit.latents.config import COPY_NAME
from dit.run_files import HEADS, METRICS_NAME, RECIPE_NAME, RunFiles, is_run, read_rows
from dit.zoo.cards.card import write_card
from dit.zoo.folder.adapter import ADAPTER_NAME, metadata_of
from dit.zoo.folder.config import write_config
from dit.zoo.folder.safetensors_file import files_of, names_in, weight_files
from dit.zoo.folder.weights import empty_model, fill, save_tensors
from dit.zoo.pipeline import Pipeline, load_pipeline
from dit.zoo.source import Located, locate

WEIGHTS_NAME = "model.safetensors"
SAMPLES_NAME = "samples.png"
LOSS_CURVE_NAME = "loss.png"
CARRIED_OVER = (RECIPE_NAME, METRICS_NAME)
"""Carried over with the run's own average alone: of other weights these figures would not be true."""
GRID_CLASSES = 10
GRID_COLUMNS = 8


def export(
    run_folder: str | Path,
    out: str | Path,
    *,
    samples: bool = True,
    weights: Sequence[Path] | None = None,
    provenance: Mapping[str, Any] | None = None,
    adapter: bool = False,
    half: bool = False,
) -> Path:
    """Write the exported folder of a run; it is there whole or not at all.

    Args:
        run_folder: the run; its newest checkpoint that verifies is taken.
        out: new or empty folder.
        samples: whether to draw `samples.png` with the exported weights.
        weights: safetensors file, or its parts, of other weights of the same network, in place of the average.
        provenance: what else is to be known of where the weights come from.
        adapter: write only what was trained of the weights that the run began with, in place of all.
        half: write float16, half the bytes, in place of the type of the run's weights.

    Returns:
        `out`.

    Raises:
        ConfigError: `out` is not empty.
        DitError: the run is damaged, has no checkpoint, or its weights hold NaN or infinity; or what it trained goes
            over no other weights.
    """
    run_folder, out = Path(run_folder), Path(out)
    if not is_run(run_folder):
        raise DitError(f"{run_folder}: expected a run folder, found no run.json in it")
    located = locate(run_folder)
    config = located.config.model_copy(update={"provenance": located.config.provenance.updated(**(provenance or {}))})
    average = files_of(located.weights[-1])  # what is not trained is in the files before these
    before = [path for path in located.weights if path not in average]
    model = fill(empty_model(config.model), [*before, *(weights or average)])
    base = find_base(run_folder, located) if adapter else None
    if any(located.weights[0].parent.glob(f"{HEADS}*.safetensors")):
        say(f"{run_folder}: the heads of its auxiliary losses serve training alone and are left out")
    with new_folder(out) as folder:
        if base is None:
            save_tensors((model.half() if half else model).state_dict(), folder / WEIGHTS_NAME)
            write_config(folder, config)
        else:
            trained = _load(weights or average)
            if half:
                trained = {name: tensor.half() for name, tensor in trained.items()}
            save_tensors(trained, folder / ADAPTER_NAME, metadata_of(base.name, base.files, trained))
            write_config(folder, config.model_copy(update={"adapter_of": base.name}))
        for name in (*CARRIED_OVER, *([FIGURES_NAME] if weights is None else [])):
            if (run_folder / name).is_file():
                shutil.copyfile(run_folder / name, folder / name)
        if (folder / METRICS_NAME).is_file():
            draw_loss(read_rows(folder / METRICS_NAME), folder / LOSS_CURVE_NAME)
        if (run_folder / COPY_NAME).is_dir():  # a copy of the user's own autoencoder
            shutil.copytree(run_folder / COPY_NAME, folder / COPY_NAME)
        if samples:
            draw_samples(load_pipeline(folder), folder / SAMPLES_NAME)
        write_card(folder, source=str(out))
    return out


@dataclass(frozen=True)
class Base:
    """The weights that a run began with."""

    name: str
    """Their source; of a place of this machine the whole path."""
    files: list[Path]
    """Their files."""


def find_base(run_folder: Path, located: Located) -> Base:
    """Return the weights that a run began with, which what it trained goes over.

    Args:
        run_folder: the run.
        located: its own weights.

    Raises:
        DitError: it trained all parameters, from nothing, or a network or process that differs from the weights'.
    """
    recipe = load_recipe(run_folder / RECIPE_NAME)
    source, trainable = recipe.model.pretrained, recipe.optim.trainable.name
    if source is None or trainable == "all" or recipe.process.retrain:
        raise DitError(
            f"{run_folder}: expected for --adapter a run that trained a part of other weights by their process, found "
            f"optim.trainable {trainable}, model.pretrained {source}, process.retrain {recipe.process.retrain}"
        )
    base, whole = locate(source), _load(located.weights)
    began = fill(empty_model(base.config.model), base.weights).state_dict()
    frozen = whole.keys() & began.keys() - names_in(files_of(located.weights[-1]))
    same = base.config.model.arguments == located.config.model.arguments
    if not same or any(not torch.equal(whole[name], began[name].to(whole[name].dtype)) for name in frozen):
        found = "other weights" if same else "a network with other arguments, such as other classes"
        raise DitError(
            f"{run_folder}: expected for --adapter what goes over {source}, found {found}; export it without --adapter"
        )
    return Base(str(Path(source).absolute()) if Path(source).exists() else source, base.weights)


def _load(files: Iterable[Path]) -> dict[str, Tensor]:
    """Return the tensors of files, those of a later one in place of an earlier one's."""
    return {name: tensor for path in files for name, tensor in load_file(path).items()}


def find_best(run_folder: str | Path) -> dict[str, Any]:
    """Return what `export` takes of the average that was the best in the evaluations while training.

    Raises:
        DitError: none was kept.
    """
    best = load_newest(RunFiles(run_folder).best)
    if best is None:
        raise DitError(f"{RunFiles(run_folder).best}: expected the best average, found none; see train.evaluate_every")
    images_seen = best.state["images_seen"]
    return {"weights": weight_files(best.path, "ema"), "provenance": {"steps": best.step, "images_seen": images_seen}}


def draw_samples(pipeline: Pipeline, path: str | Path, *, seed: int = 0) -> None:
    """Write a picture with a row of samples for each of up to ten classes, at the model's sampling defaults."""
    labels = [label for label in spread(pipeline.num_classes, GRID_CLASSES) for _ in range(GRID_COLUMNS)]
    classes, num = (labels, None) if labels else (None, GRID_COLUMNS)
    latents = pipeline.sample_latents(classes, num=num, seed=seed)
    image_grid(pipeline.decode(latents), columns=GRID_COLUMNS).save(path)


def spread(num_classes: int, num: int) -> Sequence[int]:
    """Return up to `num` class ids that are evenly spread over all."""
    num = min(num, num_classes)
    return [i * num_classes // num for i in range(num)]
