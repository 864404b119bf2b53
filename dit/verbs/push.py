"""`dit push`: a model, or the latents of a data set, are published on the Hub."""

from pathlib import Path


def run(
    folder: Path,
    repository: str,
    /,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    license: str | None = None,  # noqa: A002 - the Hub's word for it
    dry_run: bool = False,
) -> None:
    """Publish an exported or converted folder, or one of `dit encode`, in one commit, with its card.

    The folder is checked, the card rendered and required fields looked at before anything leaves this machine; only
    files of the known kinds are published. The token comes from the environment or the Hub's own login. Latents become
    a data set, and are compared with their hashes before; the card says how to train on them where they are.

    Args:
        folder: exported folder, one of `dit convert --to diffusers`, or latents: OUT of `dit encode`; an adapter by its
            folder or file.
        repository: org/name, where it goes; made where it is not there.
        private: whether a new repository is private.
        revision: branch to push to; made where it is not there.
        tag: tag that the commit gets.
        create_pr: propose the commit as a pull request.
        license: license by the Hub's identifier, such as apache-2.0; a fine-tune inherits its base's, and latents are
            said to have an unknown one by default.
        dry_run: show files, sizes and the card, and publish nothing.
    """
    from dit.display import say
    from dit.zoo.folder.adapter import ADAPTER_NAME
    from dit.zoo.hub.push import push
    from dit.zoo.hub.push_latents import is_latents, push_latents

    folder = folder.parent if folder.name == ADAPTER_NAME else folder
    pushed = (push_latents if is_latents(folder) else push)(
        folder,
        repository,
        private=private,
        revision=revision,
        tag=tag,
        create_pr=create_pr,
        dry_run=dry_run,
        license=license,
    )
    if dry_run:
        print(pushed.card)
        for name, size in pushed.files.items():
            print(f"{size:>14,}  {name}")
        print(f"{sum(pushed.files.values()):>14,}  in all")
    for path in pushed.cut:
        say(f"published by its last part alone: {path}")
    for name in pushed.left_out:
        print(f"not published: {name}")
    if pushed.address is not None:
        print(pushed.address)
