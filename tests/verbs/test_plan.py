"""`dit plan`: what it says of a small network, and what it refuses."""

import re

import pytest

from tests.command import fails, runs


def test_a_plan_says_all_there_is_to_know(capsys):
    lines = runs(capsys, "plan", "dit_ti_2", "--gpus", "4", "--batch_size", "64", "--images", "1M", "--price", "2")
    rows = dict(line.split(maxsplit=1) for line in lines if not line.startswith(" "))
    assert {"model", "processes", "memory", "activations", "operations", "time", "traffic", "latents", "cost"} == set(
        rows
    )
    assert rows["processes"] == "4 of 16 images each, on h100 of 80 GB"
    assert [line.split("checkpointing ")[1] for line in lines if line.startswith(" ")] == ["selective)", "blocks)"]
    sizes = dict(re.findall(r"(\w+) ([\d.]+) MB", rows["memory"]))
    assert float(sizes["optimizer"]) == pytest.approx(2 * float(sizes["gradients"]), abs=0.2)
    assert "fits" in rows["activations"]


def test_a_plan_with_parts_says_what_is_gathered(capsys):
    def memory_with(*options):
        lines = runs(capsys, "plan", "dit_ti_2", "--gpus", "4", "--batch_size", "64", *options)
        (row,) = [line for line in lines if line.startswith("memory")]
        return {kind: float(size) for kind, size in re.findall(r"(\w+) ([\d.]+) MB", row)}

    whole = memory_with()
    for options, parts in ((["--shard", "fsdp2"], 4), (["--shard", "hsdp", "--shard_size", "2"], 2)):
        dealt = memory_with(*options)
        assert dealt.pop("gathered") > 0
        assert dealt == {kind: pytest.approx(size / parts, rel=0.1) for kind, size in whole.items()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gpus", "0"], "--gpus: expected at least 1, found 0"),
        (["--gpus", "3"], "--batch_size: expected a multiple of the 3 GPUs, found 256"),
        (["--shard", "hsdp"], "train.shard_size: hsdp: expected the size, from 2 on, of two or more groups of 8"),
        (["--mfu", "1.5"], "--mfu: expected a share above 0 and at most 1, found 1.5"),
        (["--images", "many"], "--images: expected a number such as 400M, found 'many'"),
    ],
)
def test_what_makes_no_plan_is_refused(capsys, options, words):
    assert words in fails(capsys, "plan", "dit_ti_2", *options)


def test_an_unknown_model_is_refused(capsys):
    assert "Did you mean 'dit_xl_2'" in fails(capsys, "plan", "dit_xl2")
