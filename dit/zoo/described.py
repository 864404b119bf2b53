"""What `entries.yaml` alone says of a model, as its exported folder would say it: nothing is downloaded."""

from dit.zoo.entries import architecture_of, arguments_of, entries
from dit.zoo.folder.config import FolderConfig, ModelDescription, Provenance
from dit.zoo.layouts.original import describe_autoencoder, imagenet_labels, original_process


def describe_entry(name: str) -> FolderConfig:
    """Describe the model of a zoo name."""
    entry, arguments = entries()[name], arguments_of(name)
    latents, _ = describe_autoencoder(entry.vae, arguments["in_channels"])
    return FolderConfig(
        model=ModelDescription(name=architecture_of(name), arguments=arguments),
        process=original_process(entry.process, arguments["learn_sigma"]),
        latents=latents,
        sampling=entry.sampling,
        id2label=imagenet_labels(arguments["num_classes"]),
        provenance=Provenance(
            name=name,
            data=entry.data,
            license=entry.license,
            base_license=entry.license,
            paper=entry.paper,
            converted_from=entry.sources[0].describe(),
        ),
    )
