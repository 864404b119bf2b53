"""JiT: a plain transformer over large patches of pixels that predicts the image. This file is free of torch."""

from dit.models.family import Family
from dit.models.jit.arguments import VARIANTS, JiTArguments
from dit.models.jit.layouts import LAYOUTS, read

FAMILY = Family(
    name="jit",
    arguments=JiTArguments,
    network="dit.models.jit.network:JiT",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
