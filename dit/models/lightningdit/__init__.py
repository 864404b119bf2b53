"""LightningDiT: a DiT with RMSNorm, SwiGLU and rotary positions. This file is free of torch."""

from dit.models.family import Family
from dit.models.lightningdit.arguments import VARIANTS, LightningDiTArguments
from dit.models.lightningdit.layouts import LAYOUTS, read

FAMILY = Family(
    name="lightningdit",
    arguments=LightningDiTArguments,
    network="dit.models.lightningdit.network:LightningDiT",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
