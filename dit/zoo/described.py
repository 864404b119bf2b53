"""What `entries.yaml` alone says of a model, as its exported folder would say it: nothing is downloaded."""

from pathlib import Path

from dit.files import ASSETS
from dit.zoo.cards.card import CARD_NAME, render, reported
from dit.zoo.entries import architecture_of, entries, entry_arguments, entry_facts
from dit.zoo.folder.config import FolderConfig, ModelDescription, Provenance
from dit.zoo.source import Located, locate


def describe(source: str) -> Located:
    """Find a source's description, for all that needs no weights; for the errors see `locate`.

    Returns:
        What is there; for a zoo name whose weights are elsewhere its description and no weights.
    """
    if source in entries() and not entries()[source].sources[0].embedded:
        return Located(Path(source), describe_entry(source), [])
    return locate(source)


def describe_entry(name: str) -> FolderConfig:
    """Describe the model of a zoo name."""
    from dit.zoo.layouts.entry import latents_of_entry, process_of_entry  # with torch
    from dit.zoo.layouts.original import imagenet_labels

    entry, arguments, latents = entries()[name], entry_arguments(name), latents_of_entry(name)
    facts = entry_facts(name, entry.sources[0])
    if latents is None:
        facts["autoencoder"] = entry.vae
    return FolderConfig(
        model=ModelDescription(name=architecture_of(name), arguments=arguments),
        process=process_of_entry(name),
        latents=latents,
        sampling=entry.sampling,
        published=entry.published,
        id2label=imagenet_labels(arguments.num_classes),
        provenance=Provenance(**facts),
    )


def entry_card(name: str) -> str:
    """Return the card of a zoo name; that of weights which ship with the package is their folder's."""
    entry = entries()[name]
    if entry.sources[0].embedded:
        text = (ASSETS / name / CARD_NAME).read_text(encoding="utf-8")
        for picture in ("samples.png", "loss.png", "failures.png"):
            text = text.replace(f"({picture})", f"(../dit/assets/{name}/{picture})")
        return text
    return render(
        describe_entry(name),
        title=entry.title,
        source=name,
        reported=reported(name),
        places=[f"{place.layout} layout, {place.describe()}" for place in entry.sources],
        by_hand=entry.sources[0].file if entry.sources[0].page else None,
        apart=entry.vae_kept == "apart",
    )
