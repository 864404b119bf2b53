"""MDT and MDTv2: DiTs that learn to fill in masked tokens. This file is free of torch."""

from dit.models.family import Family
from dit.models.mdt.arguments import MDT_V2_VARIANTS, MDT_VARIANTS, MdtArguments

MDT = Family(name="mdt", arguments=MdtArguments, network="dit.models.mdt.network:Mdt", variants=MDT_VARIANTS)
MDT_V2 = Family(name="mdtv2", arguments=MdtArguments, network="dit.models.mdt.network:MdtV2", variants=MDT_V2_VARIANTS)
