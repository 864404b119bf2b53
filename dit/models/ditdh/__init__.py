"""DiT-DH: a LightningDiT whose last blocks are few, wide and see the input anew. This file is free of torch."""

from dit.models.ditdh.arguments import VARIANTS, DiTDHArguments
from dit.models.ditdh.layouts import LAYOUTS, read
from dit.models.family import Family

FAMILY = Family(
    name="ditdh",
    arguments=DiTDHArguments,
    network="dit.models.ditdh.network:DiTDH",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
