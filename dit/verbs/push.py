"""`dit push`: a model is published on the Hub."""

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
    """Publish an exported or converted folder in one commit, with its card.

    The folder is checked, the card rendered and required fields looked at before anything leaves this machine; only
    files of the known kinds are published. The token comes from the environment or the Hub's own login.

    Args:
        folder: exported folder, or one of `dit convert --to diffusers`.
        repository: org/name, where it goes; made where it is not there.
        private: whether a new repository is private.
        revision: branch to push to; made where it is not there.
        tag: tag that the commit gets.
        create_pr: propose the commit as a pull request.
        license: license of the weights by the Hub's identifier, such as apache-2.0; a fine-tune inherits its base's.
        dry_run: show files, sizes and the card, and publish nothing.
    """
    from dit.display import say
    from dit.zoo.hub.push import push

    pushed = push(
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
