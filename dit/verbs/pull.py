"""`dit pull`: a published model comes to this machine."""

from pathlib import Path


def run(
    source: str,
    folder: Path | None = None,
    /,
    revision: str | None = None,
    layout: str | None = None,
    from_: Path | None = None,
) -> None:
    """Download a model as an exported folder, every weight file checked by its hash; what is there is not loaded again.

    Weights that lie where only a person can fetch them, such as a shared drive, are given by --from; from then on the
    name is found on this machine.

    Args:
        source: zoo name, or Hub id org/name[@revision]; `dit models --pretrained` lists the names.
        folder: new or empty folder to write; by default the model stays in the cache.
        revision: branch, tag or commit of a Hub id.
        layout: of a zoo name with several sources, which: native, original or diffusers.
        from_: file with the weights of a zoo name, fetched by hand.
    """
    from dit.zoo.hub.pull import pull

    print(pull(source, folder, revision=revision, layout=layout, file=from_))
