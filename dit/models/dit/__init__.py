"""DiT: the Diffusion Transformer with adaLN-Zero conditioning. This file is free of torch."""

from dit.models.dit.arguments import VARIANTS, DiTArguments
from dit.models.dit.layouts import LAYOUTS, read
from dit.models.family import Family

FAMILY = Family(
    name="dit",
    arguments=DiTArguments,
    network="dit.models.dit.network:DiT",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
