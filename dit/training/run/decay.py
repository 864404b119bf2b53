"""A short decay of a long run: another run that goes on from a checkpoint while the learning rates fall.

With schedule `wsd` the rates before the decay do not depend on where it begins, so that one long run can be ended at
any checkpoint, each time as if it had been planned to end there.
"""

from pathlib import Path
from typing import Any

from dit import checkpoint
from dit.checkpoint import Checkpoint
from dit.config import Recipe
from dit.errors import ConfigError
from dit.run_files import RunFiles
from dit.training.run.resume import check_same_run

DECIDED_ANEW = ("train.decay_from", "train.max_steps", "train.epochs", "optim.decay_steps", "optim.final_lr_ratio")


def first_step(recipe: Recipe) -> int:
    """Return the step at which a run begins, from the name of the checkpoint where it goes on from another's.

    Raises:
        ConfigError: the name is none of a checkpoint's.
    """
    if recipe.train.decay_from is None:
        return 0
    match = checkpoint.STEP_FOLDER.fullmatch(Path(recipe.train.decay_from).name)
    if match is None:
        raise ConfigError(
            "train.decay_from: expected a checkpoint of a run, such as RUN/checkpoints/step-00010000, found "
            f"{recipe.train.decay_from}"
        )
    return int(match[1])


def with_decay(recipe: Recipe) -> Recipe:
    """Return the recipe with `max_steps` where the decay from a checkpoint ends, if there is one.

    Raises:
        ConfigError: the schedule does not decay, or what is named is no checkpoint.
    """
    if recipe.train.decay_from is None:
        return recipe
    if recipe.optim.schedule != "wsd":
        raise ConfigError(f"train.decay_from: expected optim.schedule wsd, found {recipe.optim.schedule}")
    update = {"max_steps": first_step(recipe) + recipe.optim.decay_steps, "epochs": None}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=update)})


def load_start(recipe: Recipe, facts: dict[str, Any]) -> Checkpoint:
    """Return the checkpoint that the decay begins with.

    Args:
        recipe: of the decay.
        facts: its own, by dotted field, as in run.json.

    Raises:
        ConfigError: it belongs to no run, to one of another recipe, or its learning rates had begun to fall.
        DitError: it is damaged.
    """
    path = Path(recipe.train.decay_from or "")
    files = RunFiles(path.absolute().parents[1])
    if not path.is_dir() or not files.facts.is_file():
        raise ConfigError(f"train.decay_from: expected a checkpoint in the folder of its run, found none at {path}")
    known, step = files.read_facts(), first_step(recipe)
    # As the run was at this checkpoint: without what was changed in it later.
    theirs = known.facts | {change.field: change.old for change in reversed(known.changes) if change.step >= step}
    schedule = theirs.get("optim.schedule")
    anew = [*DECIDED_ANEW, *(["optim.schedule"] if schedule == "constant" else [])]
    check_same_run(theirs, facts, origin=str(files.path), changed=anew, done="train.decay_from goes on from")
    end_of_stable = theirs["train.max_steps"] - (theirs["optim.decay_steps"] if schedule == "wsd" else 0)
    if step > end_of_stable:
        raise ConfigError(
            f"train.decay_from: expected a checkpoint of at most step {end_of_stable}, where the learning rates of "
            f"{files.path} begin to fall, found {step}"
        )
    return checkpoint.load(path)
