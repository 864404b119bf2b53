"""The `evaluation` section of a recipe."""

from typing import Annotated

from pydantic import Field

from dit.data.registry import find_data
from dit.sampling.config import LikelihoodConfig
from dit.schema import Section


class EvaluationConfig(Section):
    """How samples are measured: how many, in which features, against held-out images."""

    features: str | None = None
    """Feature extractor: mnist, inception-v3-compat or timm/MODEL; left out: that of the data,
    mnist for mnist."""
    num: Annotated[int, Field(ge=2)] = 1000
    """Number of samples; the Frechet distance is biased upwards by few samples, so compare at equal numbers."""
    batch_size: Annotated[int, Field(ge=1)] = 100
    """Samples per batch; it changes speed and memory, not the samples."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the samples; each sample depends on it and on its own position alone."""
    likelihood: LikelihoodConfig = LikelihoodConfig()
    """How `dit evaluate --likelihood` computes the likelihood of held-out latents."""

    def features_for(self, data_source: str) -> str | None:
        """Return the feature extractor's name for data of this source; None where it has to be named."""
        registered = find_data(data_source)
        return self.features or (registered.features if registered else None)
