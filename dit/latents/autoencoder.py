"""Finding and loading an autoencoder as diffusers saves it: embedded, in a folder, or on the Hub.

The class is the one that the folder's `config.json` names: `AutoencoderKL` and `AutoencoderRAE` are loaded without
diffusers, any other with it. Only safetensors are read, and loading is strict: diffusers itself would merely log that
weights are missing and leave them at random.
"""

import hashlib
import importlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dit.errors import ConfigError, DitError, did_you_mean
from dit.files import ASSETS, new_folder, read_json, sha256
from dit.hub_files import download
from dit.hub_ids import HubId
from dit.latents.diffusers_autoencoder import DiffusersAutoencoder
from dit.latents.kind import Autoencoder
from dit.latents.kl import KLAutoencoder
from dit.latents.pixels import Pixels
from dit.latents.rae import CLASS_NAME as RAE_NAME
from dit.latents.rae import RAE
from dit.tensors import check_tensors, listed

EMBEDDED = ASSETS / "vae"
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
WEIGHTS_PATTERN = "diffusion_pytorch_model*.safetensors*"  # one file, or shards with their index
_PATTERNS = [pattern for name in (CONFIG_NAME, WEIGHTS_PATTERN) for pattern in (name, f"vae/{name}")]
_NORMALISATION = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
_NOT_ARCHITECTURE = (*_NORMALISATION, "_diffusers_version", "_name_or_path")


@dataclass(frozen=True)
class AutoencoderFolder:
    """A folder that holds an autoencoder."""

    path: Path
    """The folder with config.json."""
    source: str
    """What the user called it."""
    revision: str | None
    """The commit, where it came from the Hub."""
    is_local: bool
    """Whether it is a folder of the user's, which has to be copied into whatever is to work elsewhere."""

    def config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            DitError: it is damaged.
        """
        config = read_json(self.path / CONFIG_NAME)
        if not isinstance(config, dict) or not isinstance(config.get("_class_name"), str):
            raise DitError(f"{self.path / CONFIG_NAME}: expected a diffusers autoencoder with _class_name, found none")
        return config

    @property
    def class_name(self) -> str:
        """Name of its class in diffusers."""
        return self.config()["_class_name"]

    def weights(self) -> list[Path]:
        """List the files with weights."""
        return [file for file in sorted(self.path.glob(WEIGHTS_PATTERN)) if ".fp16." not in file.name]

    def copy(self, target: Path) -> None:
        """Copy configuration and weights into a new folder."""
        with new_folder(target) as folder:
            for file in (self.path / CONFIG_NAME, *self.weights()):
                shutil.copyfile(file, folder / file.name)

    def fingerprint(self) -> str:
        """Hash the architecture and the weights: two autoencoders with the same hash give the same moments."""
        architecture = {key: value for key, value in self.config().items() if key not in _NOT_ARCHITECTURE}
        weights = {file.name: sha256(file) for file in self.weights()}
        return hashlib.sha256(json.dumps([architecture, weights], sort_keys=True).encode()).hexdigest()


def find_autoencoder(source: str) -> AutoencoderFolder:
    """Find an autoencoder; one on the Hub is downloaded (or taken from the Hub's cache).

    Args:
        source: an embedded name, a folder (also of a whole pipeline, with the autoencoder in `vae/`), or a Hub id
            `org/name[@revision]` of either kind.

    Raises:
        ConfigError: there is no such autoencoder.
        DitError: the Hub can't be reached or refuses.
    """
    if (EMBEDDED / source / CONFIG_NAME).is_file() and Path(source).name == source:
        return AutoencoderFolder(EMBEDDED / source, source, revision=None, is_local=False)
    path = Path(source).expanduser()
    if path.is_dir():
        return AutoencoderFolder(_folder_with_config(path, source), source, revision=None, is_local=True)
    if path.is_file():
        raise ConfigError(
            f"latents.vae: expected a folder, found the file {source}; `dit convert FILE FOLDER` makes one of a file "
            "with an autoencoder of latent diffusion"
        )
    hub_id = HubId.parse(source)
    if hub_id is not None and not path.exists():
        try:
            snapshot, commit = download(hub_id, _PATTERNS)
        except DitError as error:
            raise DitError(f"latents.vae {source!r}: there is no such folder; on the Hub: {error}") from None
        return AutoencoderFolder(
            _folder_with_config(snapshot, source), hub_id.repository, revision=commit, is_local=False
        )
    embedded = sorted(folder.name for folder in EMBEDDED.iterdir())
    raise ConfigError(
        f"latents.vae: expected an embedded autoencoder ({', '.join(embedded)}), a folder or a Hub id "
        f"org/name[@revision], found {source!r}.{did_you_mean(source, embedded)}"
    )


def load_autoencoder(folder: AutoencoderFolder, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """Load an autoencoder in eval mode, without gradients.

    Raises:
        ConfigError: diffusers has no such class, or it is no autoencoder of images.
        DitError: weights are missing, of another shape, superfluous or not finite; the folder is named.
    """
    config = folder.config()
    if folder.class_name == Pixels.__name__:
        return Pixels(config["in_channels"]).to(dtype).eval()
    if KLAutoencoder.is_supported(config):
        autoencoder = _load_kl(folder, config)
    else:
        autoencoder = _load_rae(folder, config) if folder.class_name == RAE_NAME else _load_other(folder)
    for name, tensor in autoencoder.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DitError(f"{folder.path}: expected finite weights, found NaN or infinity in {name}")
    return autoencoder.to(dtype).eval().requires_grad_(False)


def _load_kl(folder: AutoencoderFolder, config: dict[str, Any]) -> KLAutoencoder:
    found = {KLAutoencoder.current_name(name): tensor for name, tensor in _read(folder).items()}
    try:
        with torch.device("meta"):
            autoencoder = KLAutoencoder(config)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise _unloadable(folder, error) from None
    check_tensors(folder.path, autoencoder.state_dict(), found)
    autoencoder.load_state_dict({name: tensor.float() for name, tensor in found.items()}, assign=True)
    return autoencoder


def _load_rae(folder: AutoencoderFolder, config: dict[str, Any]) -> RAE:
    try:
        return RAE(config, _read(folder), folder.path)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _unloadable(folder, error) from None


def _read(folder: AutoencoderFolder) -> dict[str, Tensor]:
    """Read all tensors of a folder, memory-mapped."""
    found: dict[str, Tensor] = {}
    whole = [path for path in folder.weights() if path.name == WEIGHTS_NAME]
    for path in whole or folder.weights():
        if path.suffix == ".safetensors":
            try:
                found |= load_file(path)
            except (SafetensorError, OSError) as error:
                raise _unloadable(folder, error) from None
    if not found:
        raise DitError(f"latents.vae {folder.source!r}: {folder.path} can't be loaded: no {WEIGHTS_NAME}")
    return found


def _load_other(folder: AutoencoderFolder) -> DiffusersAutoencoder:
    autoencoder_class = _autoencoder_class(folder)
    try:
        network, report = autoencoder_class.from_pretrained(
            folder.path, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # diffusers and safetensors raise OSError, ValueError, RuntimeError, SafetensorError
        raise _unloadable(folder, error) from None
    for kind in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, report[f"{kind}_keys"])):
            raise DitError(f"{folder.path}: {len(names)} tensors are {kind}: {listed(names)}")
    try:
        return DiffusersAutoencoder(network)
    except ValueError as error:
        raise ConfigError(f"{folder.path}: {error}") from None


def _unloadable(folder: AutoencoderFolder, error: Exception) -> DitError:
    problem = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return DitError(f"latents.vae {folder.source!r}: {folder.path} can't be loaded: {problem}")


def _autoencoder_class(folder: AutoencoderFolder) -> Any:
    """Import the one class of diffusers that is needed."""
    name = folder.class_name
    diffusers = importlib.import_module("diffusers")
    known = [entry for entry in dir(diffusers) if entry.startswith("Autoencoder") or entry == "VQModel"]
    if name not in known:
        raise ConfigError(
            f"{folder.path / CONFIG_NAME}: expected an autoencoder of diffusers, found _class_name {name!r}."
            f"{did_you_mean(name, known)}"
        )
    return getattr(diffusers, name)


def _folder_with_config(path: Path, source: str) -> Path:
    is_pipeline = (path / "vae" / CONFIG_NAME).is_file()
    for folder in (path / "vae", path) if is_pipeline else (path,):
        if (folder / CONFIG_NAME).is_file():
            return folder
    raise ConfigError(
        f"latents.vae: expected a diffusers autoencoder (config.json and diffusion_pytorch_model.safetensors), "
        f"found no config.json in {path} ({source!r})"
    )
