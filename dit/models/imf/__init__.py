"""iMF and pMF: average velocities of a plain transformer whose conditions are tokens. This file is free of torch."""

from dit.models.family import Family
from dit.models.imf.arguments import IMF_VARIANTS, PMF_VARIANTS, ImfArguments, PmfArguments

IMF = Family(name="imf", arguments=ImfArguments, network="dit.models.imf.network:Imf", variants=IMF_VARIANTS)
PMF = Family(name="pmf", arguments=PmfArguments, network="dit.models.imf.pixels:Pmf", variants=PMF_VARIANTS)
