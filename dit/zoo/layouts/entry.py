"""The weights of a zoo's entry, read as the entry says: what a file leaves open is known there."""

from pathlib import Path

from dit.diffusion.config import ProcessConfig
from dit.display import warn
from dit.errors import ConfigError, DitError
from dit.hub_ids import HubId
from dit.latents.config import LatentsDescription
from dit.models.families import family_of
from dit.zoo.entries import Entry, architecture_of, entries, entry_arguments
from dit.zoo.layouts.autoencoder_file import read_content
from dit.zoo.layouts.ldm_autoencoder import read_ldm_autoencoder
from dit.zoo.layouts.original import (
    SD_AUTOENCODERS,
    ForeignModel,
    ReadOptions,
    describe_autoencoder,
    published_process,
)
from dit.zoo.layouts.read import read_foreign


def process_of_entry(name: str) -> ProcessConfig:
    """Return the process that an entry names, from the first of the family's layouts that has it."""
    layouts, arguments = family_of(architecture_of(name)).layouts, entry_arguments(name)
    found = (published_process(layout, entries()[name].process, arguments) for layout in layouts)
    return next(process for process in found if process is not None)


def latents_of_entry(name: str) -> LatentsDescription | None:
    """Return the latents of an entry; None where its autoencoder would have to be downloaded."""
    entry = entries()[name]
    if entry.vae not in SD_AUTOENCODERS.values() and HubId.parse(entry.vae) is not None:
        return None
    return _scaled(describe_autoencoder(entry.vae, entry_arguments(name).in_channels)[0], entry)


def read_entry(name: str, source: Path, scratch: Path) -> ForeignModel:
    """Read the weights of an entry.

    Args:
        name: of the entry.
        source: the file, or the folder in the layout of diffusers.
        scratch: existing empty folder for an autoencoder that is inside the file; the model refers to it.

    Raises:
        DitError: these are the weights of another network, or damaged.
    """
    entry, architecture = entries()[name], architecture_of(name)
    if source.is_dir():
        model = read_foreign(source, ReadOptions())
    else:
        vae = entry.vae if entry.vae_kept == "diffusers" else None
        if entry.vae_kept == "inside":
            found = read_ldm_autoencoder(source, read_content(source), ReadOptions(weights="vae"))
            if found is not None:
                found.write(scratch)
                vae = str(scratch)
        arguments = {"name": architecture, **entry.arguments}
        try:
            model = read_foreign(source, ReadOptions(process=entry.process, vae=vae, model=arguments))
        except ConfigError as error:
            raise DitError(
                f"{name}: expected its weights, found others, which do not fit its description ({error})"
            ) from None
        if vae is None:
            model.config = model.config.model_copy(update={"latents": None})
    if model.config.model.name != architecture:
        raise DitError(f"{name}: expected the weights of {architecture}, found those of {model.config.model.name}")
    latents, provenance = model.config.latents, model.config.provenance
    if latents is None:
        provenance = provenance.updated(autoencoder=entry.vae)
        warn(
            f"{name}: its autoencoder {entry.vae} was not fetched, so no images can be made yet: `dit convert FILE "
            f"VAE` makes a folder of its file, and `dit convert {name} DST --vae VAE` a model with it"
        )
    update = {
        "sampling": entry.sampling,
        "published": entry.published,
        "latents": latents and _scaled(latents, entry),
        "provenance": provenance,
    }
    model.config = model.config.model_copy(update=update)
    return model


def _scaled(latents: LatentsDescription, entry: Entry) -> LatentsDescription:
    if entry.latents_scale is None:
        return latents
    return latents.model_copy(update={"scale": (entry.latents_scale,) * latents.latent_channels})
