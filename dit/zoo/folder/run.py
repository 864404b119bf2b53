"""What a run folder says of the model that it trains. Free of torch."""

from pathlib import Path
from typing import Any

from dit.checkpoint import Checkpoint
from dit.config import load_recipe
from dit.run_files import RECIPE_NAME, RunFiles, is_run
from dit.zoo.entries import entries
from dit.zoo.folder.config import FolderConfig, ModelDescription, is_exported, read_config


def base_facts(source: str) -> dict[str, Any]:
    """Return what a card says of the model that another was trained from, whose licence it inherits.

    Args:
        source: zoo name, folder, file or Hub id, as a recipe's `model.pretrained` has it.

    Returns:
        `base_model`, and, where it is known, `license` and `base_license`.
    """
    if source in entries():
        entry = entries()[source]
        repository = next((place.repository for place in entry.sources if place.repository), None)
        return {"base_model": repository or source, "license": entry.license, "base_license": entry.license}
    folder = next((path for path in (Path(source), Path(source).parent) if is_exported(path)), None)
    facts = read_config(folder).provenance if folder else {}
    licence = facts.get("license")
    # A path of this machine says nothing elsewhere.
    known = {"base_model": facts.get("repository") or (Path(source).name if Path(source).exists() else source)}
    return known | ({"license": licence, "base_license": licence} if licence else {})


def described_by(path: Path) -> Path | None:
    """Return the exported folder or run that a weight file lies in: its folder, or up to two above."""
    return next((folder for folder in list(path.absolute().parents)[:3] if is_exported(folder) or is_run(folder)), None)


def describe_run(run: str | Path, checkpoint: Checkpoint | None = None) -> FolderConfig:
    """Describe the model of a run as an exported folder would.

    Args:
        run: run folder.
        checkpoint: whose step and images go into the provenance.

    Raises:
        DitError: a file is missing or damaged; the file and the field are named.
    """
    files = RunFiles(run)
    facts, recipe = files.read_facts(), load_recipe(files.recipe)
    provenance: dict[str, Any] = {
        "code_version": facts.code_version,
        "recipe": RECIPE_NAME,
        "seed": recipe.train.seed,
        "data": recipe.data.source,
    }
    if checkpoint is not None:
        provenance |= {"steps": checkpoint.step, "images_seen": checkpoint.step * recipe.train.batch_size}
    if recipe.model.pretrained:
        provenance |= base_facts(recipe.model.pretrained)
    return FolderConfig(
        model=ModelDescription(name=recipe.model.name, arguments=facts.model_arguments),
        process=recipe.process.model_copy(update={"retrain": False}),
        latents=facts.codec,
        sampling=recipe.sampling,
        id2label=facts.id2label,
        provenance=provenance,
    )
