"""DDT: an encoder of the condition and a decoder of the velocity. This file is free of torch."""

from dit.models.ddt.arguments import VARIANTS, DdtArguments
from dit.models.ddt.layouts import LAYOUTS, read
from dit.models.family import Family

FAMILY = Family(
    name="ddt",
    arguments=DdtArguments,
    network="dit.models.ddt.network:Ddt",
    variants=VARIANTS,
    layouts=LAYOUTS,
    read=read,
)
