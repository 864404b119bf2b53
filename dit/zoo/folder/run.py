"""What a run folder says of the model that it trains. Free of torch."""

from pathlib import Path

from dit.checkpoint import Checkpoint
from dit.config import load_recipe
from dit.hub_ids import HubId
from dit.plugins import made_with
from dit.run_files import RECIPE_NAME, RunFiles, is_run
from dit.zoo.entries import entries
from dit.zoo.folder.config import FolderConfig, ModelDescription, Provenance, is_exported, read_config


def base_facts(source: str) -> dict[str, str]:
    """Return what a card says of the model that another was trained from, whose license it inherits.

    Args:
        source: zoo name, folder, file or Hub id, as a recipe's `model.pretrained` has it.

    Returns:
        `base_model`, `license` and `base_license`, where they are known: of a folder without a name elsewhere,
        nothing but its license.
    """
    if source in entries():
        entry = entries()[source]
        repository = next((place.repository for place in entry.sources if place.repository), None)
        return {"base_model": repository or source, "license": entry.license, "base_license": entry.license}
    folder = next((path for path in (Path(source), Path(source).parent) if is_exported(path)), None)
    facts = read_config(folder).provenance if folder else Provenance()
    hub_id = None if Path(source).exists() else HubId.parse(source)
    base_model = facts.repository or facts.name or (hub_id.repository if hub_id else None)
    known = {"base_model": base_model, "license": facts.license, "base_license": facts.license}
    return {name: value for name, value in known.items() if value}


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
    facts = files.read_facts()
    with made_with(facts.model_dump(), files.path):
        recipe = load_recipe(files.recipe)
    provenance = Provenance(
        code_version=facts.code_version, recipe=RECIPE_NAME, seed=recipe.train.seed, data=recipe.data.source
    )
    if checkpoint is not None:
        provenance = provenance.updated(steps=checkpoint.step, images_seen=checkpoint.step * recipe.train.batch_size)
    if recipe.model.pretrained:
        provenance = provenance.updated(**base_facts(recipe.model.pretrained))
    return FolderConfig(
        model=ModelDescription.of(recipe.model.name, **facts.model_arguments),
        process=recipe.process.model_copy(update={"retrain": False}),
        latents=facts.codec,
        sampling=recipe.sampling.model_copy(update={"preview_decoder": None}),  # of the machine that trained
        id2label=facts.id2label,
        provenance=provenance,
        plugins=facts.plugins,
    )
