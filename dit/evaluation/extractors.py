"""The feature extractors that come with this package: networks whose activations describe an image.

All take uint8 images and give float64 features.

Shapes: B images, C channels, D features, K classes of the extractor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.data.imagenet import imagenet_classes
from dit.encoders.load import load_encoder
from dit.errors import DitError
from dit.evaluation.classifier import SmallClassifier, pixels_to_unit
from dit.evaluation.moments import check_finite
from dit.evaluation.networks.inception import WEIGHTS_SHA256, build_inception, inception_weights
from dit.evaluation.networks.weights import tensors_sha256
from dit.files import ASSETS, read_json, sha256

Network = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Features:
    """What an extractor says about a batch."""

    features: Tensor
    """(B, D) float64 on the CPU, finite."""
    logits: Tensor | None
    """(B, K) float64 on the CPU, finite; None where the extractor is not a classifier."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A network that describes images, with what is needed to name it in a report."""

    name: str
    """Name that `load_features` takes to give the same network again."""
    num_features: int
    """D."""
    network: Network
    """From uint8 (B, C, H, W) on `device` to features (B, D) and logits (B, K) or None; called without gradients."""
    weights_sha256: str
    """SHA-256 of the weights."""
    device: torch.device
    """Where the network is."""
    class_names: tuple[str, ...] | None = None
    """Names of the K classes in the order of the logits; None where they do not matter."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Describe images uint8 (B, C, H, W).

        Raises:
            DitError: images of another type or shape than the network takes, or a feature that is not finite.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise DitError(f"images: expected uint8 (B, C, H, W), found {images.dtype} {tuple(images.shape)}")
        features, logits = self.network(images.to(self.device))
        features = features.to("cpu", torch.float64)
        logits = None if logits is None else logits.to("cpu", torch.float64)
        for values in (features,) if logits is None else (features, logits):
            check_finite(values)
        return Features(features, logits)


def small_classifier(name: str, device: torch.device) -> FeatureExtractor:
    """The classifier of digits that ships with this package: 32 x 32 grey images, 64 features."""
    from safetensors.torch import load_file

    folder = ASSETS / "classifier" / name
    config = read_json(folder / "config.json")
    model = SmallClassifier(**config["model"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval().requires_grad_(False).to(device)
    size = config["image_size"]

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        images = to_grey(images)
        if tuple(images.shape[1:]) != (1, size, size):
            raise DitError(
                f"evaluation.features {name}: expected grey images (1, {size}, {size}), found "
                f"{tuple(images.shape[1:])}; choose another extractor"
            )
        return model(pixels_to_unit(images))

    return FeatureExtractor(
        name=name,
        num_features=config["model"]["num_features"],
        network=network,
        weights_sha256=sha256(folder / "model.safetensors"),
        device=device,
        class_names=tuple(config["class_names"]),
    )


def timm_classifier(name: str, device: torch.device) -> FeatureExtractor:
    """The pooled features and logits of any timm classifier, for example `timm/resnet50.a1_in1k`.

    Of a thousand classes they are ImageNet's in its order, which is how timm trains; others have no names.
    """
    encoder = load_encoder(name, device, field="evaluation.features")
    model = encoder.network

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = model.forward_features(encoder.prepare(to_rgb(images).float() / 255))
        return model.forward_head(hidden, pre_logits=True), model.forward_head(hidden)

    tag = (model.pretrained_cfg or {}).get("tag")
    architecture = name.removeprefix("timm/").split(".")[0]
    return FeatureExtractor(
        name=f"timm/{architecture}.{tag}" if tag else name,
        num_features=model.head_hidden_size,
        network=network,
        weights_sha256=tensors_sha256(model.state_dict().items()),
        device=device,
        class_names=tuple(names) if model.num_classes == len(names := imagenet_classes()) else None,
    )


def inception(name: str, device: torch.device) -> FeatureExtractor:
    """torch-fidelity's Inception network of the published FIDs, for which it downloads the weights."""
    model = build_inception(name, inception_weights()).to(device)
    return FeatureExtractor(name, 2048, lambda images: model(to_rgb(images)), WEIGHTS_SHA256, device)


def to_grey(images: Tensor) -> Tensor:
    """Return one channel (B, 1, H, W) of RGB images whose three are the same, as files give grey ones."""
    is_grey = images.shape[1] == 3 and bool((images == images[:, :1]).all())
    return images[:, :1] if is_grey else images


def to_rgb(images: Tensor) -> Tensor:
    """Repeat grey images (B, 1, H, W) to (B, 3, H, W); RGB ones are returned as they are."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
