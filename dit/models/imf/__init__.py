"""iMF and pMF: average velocities of a plain transformer whose conditions are tokens. This file is free of torch."""

from dit.models.family import Family
from dit.models.imf.arguments import IMF_VARIANTS, PMF_VARIANTS, ImfArguments, PmfArguments
from dit.models.imf.layouts import IMF_LAYOUTS, PMF_LAYOUTS, read_imf, read_pmf

IMF = Family(
    name="imf",
    arguments=ImfArguments,
    network="dit.models.imf.network:Imf",
    variants=IMF_VARIANTS,
    layouts=IMF_LAYOUTS,
    read=read_imf,
)
PMF = Family(
    name="pmf",
    arguments=PmfArguments,
    network="dit.models.imf.pixels:Pmf",
    variants=PMF_VARIANTS,
    layouts=PMF_LAYOUTS,
    read=read_pmf,
)
