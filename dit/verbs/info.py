"""`dit info`: what a model is, without loading its weights."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dit.sampling.config import SamplingConfig
    from dit.zoo.folder.config import FolderConfig


def run(source: str, /) -> None:
    """Print a model's architecture, parameters, cost, process, autoencoder and provenance.

    Args:
        source: model name of `dit models`, run folder, exported folder, .safetensors file or Hub id.
    """
    from dit.models.families import variants

    facts = _variant_facts(source) if source in variants() else _source_facts(source)
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name:<{width}}  {value}")


def _variant_facts(name: str) -> list[tuple[str, str]]:
    from dit.zoo.folder.config import ModelDescription

    return [
        *ModelDescription.of(name).facts(),
        ("process, autoencoder", "none: an architecture without weights"),
    ]


def _source_facts(source: str) -> list[tuple[str, str]]:
    from dit.zoo.cards.card import reported
    from dit.zoo.described import describe
    from dit.zoo.entries import entries
    from dit.zoo.folder.safetensors_file import read_header

    located = describe(source)
    for path in located.weights:
        read_header(path)  # what is cut off or no safetensors is refused here too
    places = [] if located.weights else entries()[source].sources
    return [
        *_described(located.config),
        *(
            ("reported", f"{name} {value}, {setting}")
            for name, value, setting in reported(located.config.provenance.name)
        ),
        *(("weights", str(path)) for path in located.weights),
        *(("weights", f"{place.layout} layout, {place.describe()}") for place in places),
    ]


def _described(config: "FolderConfig") -> list[tuple[str, str]]:
    rows = config.model.facts()
    rows.append(("process", _values(config.process.model_dump(exclude={"retrain"}))))
    latents = config.latents.model_dump(mode="json") if config.latents else None
    rows.append(("autoencoder", _values(latents) if latents else config.provenance.autoencoder or "unknown"))
    rows.append(("sampling defaults", _values(_used(config.sampling))))
    if config.published is not None:
        rows.append(("published setting", _values(_used(config.published))))
    rows.append(("classes", _classes(config)))
    rows += [(f"provenance: {key}", str(value)) for key, value in config.provenance.model_dump().items()]
    return rows


def _classes(config: "FolderConfig") -> str:
    names = config.class_names
    shown = ", ".join(f"{i} {name}" for i, name in enumerate(names[:10]))
    return (shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")) if names else "none: unconditional"


def _used(sampling: "SamplingConfig") -> dict[str, Any]:
    """Return the fields of a sampling section, those left out that its choices make useless."""
    from dit.sampling.config import NEEDS

    values = sampling.model_dump()
    unused = {field for field, (choice, users) in NEEDS.items() if values[choice] not in users}
    return {field: value for field, value in values.items() if field not in unused}


def _values(mapping: dict[str, Any]) -> str:
    parts = []
    for key, value in mapping.items():
        if value is not None:
            parts.append(f"{key} ({_values(value)})" if isinstance(value, dict) else f"{key} {value}")
    return ", ".join(parts)
