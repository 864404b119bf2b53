"""The recipes that come with the package: found by name, listed with what their header says."""

from pathlib import Path

from dit.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).parent


def list_recipes() -> dict[str, Path]:
    """Return the shipped recipes, name -> file: those of the wheel, or of a checkout's `configs/`."""
    installed = _PACKAGE / "configs"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe that is given by its path or by the name of a shipped one.

    Raises:
        ConfigError: there is neither; near names are suggested.
    """
    path, shipped = Path(recipe), list_recipes()
    if path.is_file():
        return path
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    near = did_you_mean(path.stem, [*shipped, *(file.stem for file in path.parent.glob("*.yaml"))], count=1)
    raise ConfigError(f"{recipe}: expected a recipe's file or a name of `dit recipes`, found neither.{near}")


def header(path: Path) -> list[str]:
    """Return the lines of a recipe's first comment: what it trains, the command, the hardware, what to expect."""
    first, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
    return [line.removeprefix("#").strip() for line in first.splitlines() if line.startswith("#")]
