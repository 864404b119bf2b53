"""Parameters as published, and the file of all counts."""

import pytest

from dit.models import counts
from dit.models.families import FAMILIES, arguments_of, list_models
from dit.zoo.entries import architecture_of, entries, entry_arguments
from dit.zoo.folder.config import ModelDescription
from dit.zoo.folder.weights import empty_model

NETWORKS = [(name, arguments_of(name)) for name in list_models()]
NETWORKS += [(architecture_of(name), entry_arguments(name)) for name in entries()]
NETWORKS = {counts.key(*network): network for network in NETWORKS}

# Name, arguments that differ, parameters: as counted on the original networks, the fixed positions among them.
SIT = {"learn_sigma": False}
REPA_E = {**SIT, "in_channels": 32, "input_size": 16}
RAE = {"in_channels": 768, "fourier_time": True}
PIXELS_64 = {"in_channels": 3, "class_dropout_prob": 0.0}
PUBLISHED = [
    ("dit_xl_2", {}, 675_129_632),
    ("dit_xl_2", {"input_size": 64}, 676_014_368),
    ("dit_xl_2", SIT, 675_111_184),
    ("dit_l_2", SIT, 458_086_416),
    ("dit_b_2", SIT, 130_500_112),
    ("dit_xl_1", REPA_E, 675_148_064),
    ("dit_l_1", REPA_E, 458_119_200),
    ("dit_b_1", REPA_E, 130_524_704),
    ("lightningdit_b_1", {}, 130_556_192),
    ("lightningdit_b_2", {}, 130_556_288),
    ("lightningdit_l_2", {}, 458_153_056),
    ("lightningdit_xl_1", {}, 675_256_736),
    ("lightningdit_xl_2", {}, 675_256_832),
    ("lightningdit_1p0b_1", {}, 1_029_401_120),
    ("lightningdit_1p0b_2", {}, 1_029_401_216),
    ("lightningdit_1p6b_1", {}, 1_631_767_120),
    ("lightningdit_1p6b_2", {}, 1_631_767_216),
    ("lightningdit_b_1", RAE, 131_884_288),
    ("lightningdit_xl_1", RAE, 677_248_384),
    ("jit_b_16", {}, 131_320_320),
    ("jit_b_32", {}, 133_387_008),
    ("jit_l_16", {}, 459_139_808),
    ("jit_l_32", {}, 461_796_320),
    ("jit_h_16", {}, 952_842_048),
    ("jit_h_32", {}, 956_383_296),
    ("meanflow_b_4", {}, 131_214_400),
    ("meanflow_b_2", {}, 131_288_080),
    ("meanflow_l_2", {}, 459_399_184),
    ("meanflow_xl_2", {}, 676_735_504),
    ("imf_b_2", {}, 88_948_256),
    ("imf_m_2", {}, 173_921_312),
    ("imf_l_2", {}, 409_071_648),
    ("imf_xl_2", {}, 610_433_056),
    ("imf_b_2", {"velocity_head": True}, 145_596_960),
    ("imf_xl_2", {"velocity_head": True}, 711_113_760),
    ("pmf_b_16", {}, 118_234_240),
    ("pmf_b_32", {}, 120_300_928),
    ("pmf_l_16", {}, 410_320_768),
    ("pmf_l_32", {}, 412_977_280),
    ("pmf_h_16", {}, 955_508_992),
    ("pmf_h_32", {}, 959_050_240),
    ("pmf_b_16", {"velocity_head": True}, 175_474_304),
    ("pmf_h_32", {"velocity_head": True}, 1_120_397_312),
    ("mdt_s_2", {}, 35_797_208),
    ("mdt_b_2", {}, 141_488_528),
    ("mdt_l_2", {}, 477_641_312),
    ("mdt_xl_2", {}, 699_778_144),
    ("mdtv2_s_2", {}, 38_454_872),
    ("mdtv2_s_2", {"decode_layers": 4}, 38_159_576),
    ("mdtv2_b_2", {}, 150_931_856),
    ("mdtv2_l_2", {}, 507_015_776),
    ("mdtv2_xl_2", {}, 742_263_904),
    ("uvit_s_2", {}, 44_255_328),
    ("uvit_s_4", {}, 44_292_228),
    ("uvit_m_4", {}, 130_940_292),
    ("uvit_l_4", PIXELS_64, 286_827_652),
    ("uvit_l_2", {}, 286_763_172),
    ("uvit_l_4", {}, 286_861_524),
    ("uvit_h_2", {}, 500_832_016),
    ("uvit_h_4", {}, 500_942_656),
    ("ddt_b_2", {}, 130_262_800),
    ("ddt_l_2", {}, 457_648_144),
    ("ddt_xl_2", {}, 674_646_352),
    ("ditdh_s_1", {}, 196_455_764),
    ("ditdh_s_1", {"input_size": 32}, 196_750_676),
    ("ditdh_b_1", {}, 294_295_892),
    ("ditdh_l_1", {}, 621_744_436),
    ("ditdh_xl_1", {}, 838_675_796),
    ("ditdh_xl_1", {"input_size": 32}, 839_560_532),
    ("maskdit_s_2", {}, 68_346_256),
    ("maskdit_b_2", {}, 175_909_648),
    ("maskdit_l_2", {}, 510_176_272),
    ("maskdit_xl_2", {}, 730_541_200),
    ("maskdit_xl_2", {"input_size": 64}, 731_819_152),
    ("maskdit_h_2", {}, 1_010_002_192),
]


def num_parameters(name, arguments):
    network = empty_model(ModelDescription(name=name, arguments=arguments))
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("name", "overrides", "parameters"), PUBLISHED)
def test_parameters_are_the_published(name, overrides, parameters):
    arguments = arguments_of(name, **overrides)
    known = counts._known().get(counts.key(name, arguments))
    assert (known[0] if known else num_parameters(name, arguments)) == parameters


@pytest.mark.parametrize("key", NETWORKS)
def test_the_file_holds_the_parameters_of_the_networks(key):
    assert num_parameters(*NETWORKS[key]) == counts._known()[key][0]


@pytest.mark.parametrize("key", [next(iter(family.variants)) for family in FAMILIES.values()])
def test_the_file_holds_the_cost_of_the_networks(key):
    assert counts.count_live(*NETWORKS[key]) == tuple(counts._known()[key])


@pytest.mark.slow
@pytest.mark.parametrize("key", NETWORKS)
def test_the_file_holds_the_cost_of_all_networks(key):
    assert counts.count_live(*NETWORKS[key]) == tuple(counts._known()[key])


def test_the_file_holds_nothing_else():
    assert list(counts._known()) == list(NETWORKS)


def test_what_the_file_does_not_hold_is_counted():
    arguments = arguments_of("dit_ti_2", num_classes=3)
    more = arguments_of("dit_ti_2", num_classes=4)
    width = arguments.model_dump()["hidden_size"]
    assert counts.count("dit_ti_2", more).parameters == counts.count("dit_ti_2", arguments).parameters + width
