"""How a model's samples are made, as options say it, and where its report goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from dit.layers.quantize import Quantization
    from dit.sampling.config import Rounding
    from dit.zoo.pipeline import Pipeline
    from dit.zoo.source import Located

REPORT = "eval.json"


@dataclass(frozen=True)
class Making:
    """How a model's samples are made, as options say it."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the sampling section, each checked alone."""
    published: bool = False
    """Whether the published setting takes the place of the defaults."""
    guide: str | None = None
    """Source of a weaker model."""
    rounding: "Rounding | None" = None
    """How pixels become bytes."""
    quantize: "Quantization | None" = None
    """What of the blocks is in 8 bits."""

    def locate(self, source: str | Path) -> "Located":
        """Find a model, and refuse settings that don't fit it, before torch is imported."""
        from dit.verbs.sample import checked_settings
        from dit.zoo.source import locate

        located = locate(source, published=self.published)
        checked_settings(located.config.sampling, dict(self.settings))
        return located

    def load(self, source: str | Path, device: "torch.device") -> "Pipeline":
        """Load a model."""
        from dit.zoo.pipeline import load_pipeline

        pipeline = load_pipeline(
            source, device=device, quantize=self.quantize, published=self.published, guide=self.guide
        )
        pipeline.codec.rounding = self.rounding or pipeline.codec.rounding
        return pipeline

    def report(self, source: str) -> Path:
        """Return where the report goes by default."""
        return Path(f"eval.{self.quantize}.json") if self.quantize else _report_of(source, self.locate(source).folder)


def _report_of(source: str, folder: Path) -> Path:
    """Return where the report goes: beside a model of the user's, else here; a cache or this package is left alone."""
    given, found = Path(source).resolve(), folder.resolve()
    return folder / REPORT if found in (given, *given.parents) or given in found.parents else Path(REPORT)
