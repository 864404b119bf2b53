"""MDT and MDTv2: DiTs that learn to fill in masked tokens. This file is free of torch."""

from dit.models.family import Family
from dit.models.mdt.arguments import MDT_V2_VARIANTS, MDT_VARIANTS, MdtArguments
from dit.models.mdt.layouts import MDT_LAYOUTS, MDT_V2_LAYOUTS, read_mdt, read_mdt_v2

MDT = Family(
    name="mdt",
    arguments=MdtArguments,
    network="dit.models.mdt.network:Mdt",
    variants=MDT_VARIANTS,
    layouts=MDT_LAYOUTS,
    read=read_mdt,
)
MDT_V2 = Family(
    name="mdtv2",
    arguments=MdtArguments,
    network="dit.models.mdt.network:MdtV2",
    variants=MDT_V2_VARIANTS,
    layouts=MDT_V2_LAYOUTS,
    read=read_mdt_v2,
)
