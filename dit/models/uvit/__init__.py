"""U-ViT: a transformer with long skips whose time and class are tokens. This file is free of torch."""

from dit.models.family import Family
from dit.models.uvit.arguments import VARIANTS, UViTArguments
from dit.models.uvit.layouts import LAYOUTS, read

FAMILY = Family(
    name="uvit",
    arguments=UViTArguments,
    network="dit.models.uvit.network:UViT",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
