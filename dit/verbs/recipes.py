"""`dit recipes`: the recipes that come with the package."""


def run() -> None:
    """List the recipes that `dit train` takes by name: what each trains, its command, hardware and expected result."""
    from dit.recipes import header, list_recipes

    for name, path in list_recipes().items():
        print("\n  ".join([name, *filter(None, header(path))]), end="\n\n")
