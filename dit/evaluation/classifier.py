"""A small convolutional classifier of 32 x 32 grey images: its penultimate layer measures sample quality.

Inception features say little about digits, so the Frechet distance of the embedded default is taken in the features of
a classifier that this project trained on the training split alone (`tools/train_classifier.py`).

Shapes: B images, C = 1 channel, H = W = 32, D features, K classes.
"""

import torch
from torch import Tensor, nn


class SmallClassifier(nn.Module):
    """Five convolutions with batch normalisation, average pooling, a feature layer and a linear head.

    Args:
        num_classes: K, the number of classes.
        num_features: D, the width of the layer before the head; the Frechet distance is taken there. It is small so
            that the covariance of 1,000 images has full rank with room to spare.
        width: channels of the first two convolutions; the later ones have 2 and 3 times as many.
    """

    def __init__(self, *, num_classes: int, num_features: int = 64, width: int = 32) -> None:
        super().__init__()
        self.config = {"num_classes": num_classes, "num_features": num_features, "width": width}
        self.body = nn.Sequential(
            *_convolution(1, width),  # (B, w, 32, 32)
            *_convolution(width, width, stride=2),  # (B, w, 16, 16)
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width, stride=2),  # (B, 2w, 8, 8)
            *_convolution(2 * width, 3 * width),  # (B, 3w, 8, 8)
            nn.AdaptiveAvgPool2d(2),  # (B, 3w, 2, 2): keeps a little of where a stroke is
            nn.Flatten(),  # (B, 12w)
        )
        self.features = nn.Linear(12 * width, num_features)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images.

        Args:
            x: images (B, 1, 32, 32), float in [-1, 1].

        Returns:
            Features (B, D), before their activation, and logits (B, K).
        """
        features = self.features(self.body(x))  # (B, D)
        return features, self.head(torch.relu(features))


def pixels_to_unit(images: Tensor) -> Tensor:
    """Images uint8 (B, C, H, W) as float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0


def _convolution(channels_in: int, channels_out: int, *, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
