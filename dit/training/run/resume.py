"""Which run a folder holds, and whether a recipe continues it.

A run continues only under the recipe that began it: every other field decides numbers, and changing one in the middle
would make a run that no recipe describes. What may change is listed here; what may only on purpose is written down with
its step.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from dit.checkpoint import is_any_in
from dit.config import Recipe
from dit.errors import ConfigError, did_you_mean
from dit.files import read_json
from dit.run_files import Change, RunFiles, read_rows

MAY_CHANGE = frozenset(
    {
        "train.max_steps",
        "train.gradient_accumulation",
        "train.activation_checkpointing",
        "train.shard",
        "train.shard_size",
        "train.deterministic",
        "train.log_every",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.keep_every",
        "train.validate_every",
        "train.evaluate_every",
        "train.preview_every",
        "train.preview_samples",
        "train.trackers",
        "train.on_spike",
        "train.spike_sigma",
        "train.timeout",
        "ema.restart",
        "process.retrain",
        "latents.cache",
        "latents.cache_limit",
        "latents.batch_size",
        "data.num_workers",
    }
)
CAN_CHANGE = frozenset(
    {
        "optim.lr",
        "optim.muon_lr",
        "optim.muon_momentum",
        "optim.betas",
        "optim.eps",
        "optim.weight_decay",
        "optim.warmup_steps",
        "optim.schedule",
        "optim.decay_steps",
        "optim.final_lr_ratio",
        "optim.max_grad_norm",
        "ema.decay",
        "ema.warmup",
        "train.mixed_precision",
        "train.compile",
    }
)
"""Fields that decide numbers and can be changed on purpose: no state of the run depends on their old value."""
GROWING_SECTIONS = ("train.", "optim.", "ema.")
"""Sections of which a run of an earlier version may lack fields; these had their default then."""
MAY_CHANGE_SECTIONS = ("sampling.", "evaluation.")
"""Sections that say what is done with the weights, not what they become."""

LAW_OF_DRAWS = "draws: law"
"""Fact of a run: by which law its noise, times and flips are drawn."""


def flat_fields(section: BaseModel) -> dict[str, Any]:
    """Return a recipe's values by dotted field, as JSON; a section's list is one value."""
    return dict(_flat(section.model_dump(mode="json"), ""))


def check_changes(fields: Collection[str]) -> None:
    """Refuse to change fields of a run that have to stay as they are.

    Raises:
        ConfigError: naming the first.
    """
    for field in fields:
        if not _may_change(field) and field not in CAN_CHANGE:
            raise ConfigError(
                f"--change {field}: this field can't change within a run, expected one of "
                f"{', '.join(sorted(CAN_CHANGE))}; begin another run.{did_you_mean(field, CAN_CHANGE)}"
            )


def check_same_run(
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    *,
    origin: str,
    changed: Collection[str] = (),
    done: str = "--resume continues",
) -> None:
    """Refuse to continue a run under another recipe, data set or network.

    Args:
        saved: what began the run, by dotted field.
        current: what would continue it.
        origin: the run's folder.
        changed: fields that may differ this time.
        done: what is done with the run, in the message.

    Raises:
        ConfigError: with every field that differs, and both values.
    """
    if saved.get(LAW_OF_DRAWS) != current.get(LAW_OF_DRAWS):
        raise ConfigError(
            f"{origin}: expected a run whose noise and times are drawn by {current.get(LAW_OF_DRAWS)}, found "
            f"{saved.get(LAW_OF_DRAWS) or 'one of an earlier version'}; finish it with the version of dit that began "
            "it, or begin another run in another --output"
        )
    saved = _completed(saved)
    differences = [
        f"{field}: the run has {saved.get(field)!r}, found {current.get(field)!r}"
        for field in sorted(saved.keys() | current.keys())
        if saved.get(field) != current.get(field) and not _may_change(field) and field not in changed
    ]
    if differences:
        raise ConfigError(
            f"{origin}: {done} a run with the recipe, data and kind of device that began it; "
            f"{'; '.join(differences)}; set them back, or begin another run in another --output"
        )


def changes_of(
    saved: Mapping[str, Any], current: Mapping[str, Any], changed: Collection[str], step: int
) -> list[Change]:
    """Return what is changed on purpose at this step; what was changed so before is none."""
    saved = _completed(saved)
    fields = [field for field in sorted(changed) if saved.get(field) != current.get(field)]
    return [Change(step=step, field=field, old=saved.get(field), new=current.get(field)) for field in fields]


def check_checkpoints_are_there(files: RunFiles, checkpoint_every: int) -> None:
    """Refuse to begin a run anew, without a word, whose checkpoints are gone.

    Args:
        files: the run's.
        checkpoint_every: steps between two checkpoints.

    Raises:
        ConfigError: the run wrote a checkpoint, and there is none.
    """
    rows = read_rows(files.metrics)
    if not rows or is_any_in(files.checkpoints):
        return
    state = read_json(files.status)["state"] if files.status.is_file() else None
    # A run that was killed before or in its first checkpoint has lost nothing more by beginning again.
    if rows[-1]["step"] - rows[0]["step"] >= checkpoint_every or state in ("done", "preempted"):
        raise ConfigError(
            f"{files.checkpoints}: expected a checkpoint of the run's {rows[-1]['step']} steps, found none; "
            "put it back, or begin another run in another --output"
        )


def _may_change(field: str) -> bool:
    return field in MAY_CHANGE or field.startswith(MAY_CHANGE_SECTIONS)


def _completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's fields, with the defaults of those that there were not yet when it began."""
    defaults = flat_fields(Recipe())
    return {field: value for field, value in defaults.items() if field.startswith(GROWING_SECTIONS)} | dict(saved)


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, value))
    return rows
