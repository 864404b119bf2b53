"""Which versions of other packages a figure was computed with."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that the figures depend on, those that are installed."""
    # The version is an attribute of the package that this module is in; importing it by name would go upwards.
    versions = {"python": platform.python_version(), "dit": sys.modules["dit"].__version__}
    for name in ("torch", "numpy", "pillow", "diffusers", "timm", "torch-fidelity"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
