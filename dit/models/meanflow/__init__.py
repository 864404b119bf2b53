"""MeanFlow: a DiT that knows two times and returns the mean velocity between them. This file is free of torch."""

from dit.models.family import Family
from dit.models.meanflow.arguments import VARIANTS, MeanFlowArguments
from dit.models.meanflow.layouts import LAYOUTS, read

FAMILY = Family(
    name="meanflow",
    arguments=MeanFlowArguments,
    network="dit.models.meanflow.network:MeanFlow",
    variants=VARIANTS,
    extends="dit",
    layouts=LAYOUTS,
    read=read,
)
