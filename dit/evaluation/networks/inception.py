"""The Inception network of 2015-12-05, in which FIDs are published: torch-fidelity's class and weights.

It differs from torchvision's: average pools leave the padding out, and the last block pools by the maximum.

Shapes: B images.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.evaluation.networks.network import LoadedNetwork
from dit.files import sha256

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WIDTHS = {"pool": 2048, "spatial": 2023, "logits": 1008}
SIZE = 299
NUM_SPATIAL = 7
"""Channels of `mixed_6`'s 1x1 branch that make the features of sFID: 17 x 17 x 7 = 2023."""
LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


def load_inception(device: torch.device) -> LoadedNetwork:
    """Load it, and download its weights the first time.

    Raises:
        ConfigError: torch-fidelity is not installed.
        DitError: its weights can't be had.
    """
    model = build_inception("inception-2015-12-05", inception_weights()).to(device)
    return LoadedNetwork(lambda images: forward(model, images), WEIGHTS_SHA256)


def build_inception(name: str, path: Path) -> "FeatureExtractorInceptionV3":
    """Return torch-fidelity's network with the weights of a file, which it unpickles without restriction."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3(name, ["2048", "logits"], feature_extractor_weights_path=str(path))


def forward(model: "FeatureExtractorInceptionV3", images: Tensor) -> dict[str, Tensor]:
    """Return the features of images (B, 3, 299, 299) in 0..255.

    Returns:
        pool (B, 2048); spatial (B, 2023), rows, columns and channels flattened in this order; logits (B, 1008) without
        bias, as the Inception score takes them.
    """
    x, spatial = (images - 128) / 128, images
    for name in LAYERS:
        if name == "Mixed_6d":
            spatial = model.Mixed_6d.branch1x1(x)[:, :NUM_SPATIAL].permute(0, 2, 3, 1)  # (B, 17, 17, 7)
        x = getattr(model, name)(x)
    pool = x.flatten(1)
    return {"pool": pool, "spatial": spatial.flatten(1), "logits": pool @ model.fc.weight.T}


def inception_weights() -> Path:
    """Download torch-fidelity's weights once; only these very bytes are ever unpickled.

    Raises:
        ConfigError: torch-fidelity is not installed.
        DitError: they can't be had, or the file is another one.
    """
    if find_spec("torch_fidelity") is None:
        raise ConfigError(
            "inception: expected the package torch-fidelity, found none; run: pip install 'dit-zoo[eval]'"
        )
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=WEIGHTS_SHA256)
        except (OSError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise DitError(f"inception: expected its weights from {URL_INCEPTION_V3} or at {path}; {reason}") from error
    found = sha256(path)
    if found != WEIGHTS_SHA256:
        raise DitError(f"{path}: expected sha256 {WEIGHTS_SHA256}, found {found}; remove the file and try again")
    return path
