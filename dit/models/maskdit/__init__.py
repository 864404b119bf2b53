"""MaskDiT: a DiT with a small decoder, trained on some of the tokens. This file is free of torch."""

from dit.models.family import Family
from dit.models.maskdit.arguments import VARIANTS, MaskDiTArguments
from dit.models.maskdit.layouts import LAYOUTS, read

FAMILY = Family(
    name="maskdit",
    arguments=MaskDiTArguments,
    network="dit.models.maskdit.network:MaskDiT",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
