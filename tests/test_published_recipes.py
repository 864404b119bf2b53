"""The recipes of ImageNet against the sheets of their papers, and against the entries of the weights they made."""

import pytest

from dit.cli import main
from dit.config import check_recipe, read_recipe
from dit.diffusion.config import AverageVelocityConfig, VelocityLoss
from dit.sampling.config import SamplingConfig
from dit.zoo.entries import architecture_of, entries, entry_counts
from dit.zoo.layouts.entry import process_of_entry

# Recipe -> entry; optimizer, learning rate, betas, warm-up, clipping; batch, steps, precision, EMA, mirrored images.
ADAM, ADAMW, B95, B999 = "adam", "adamw", (0.9, 0.95), (0.9, 0.999)
PUBLISHED = {
    "dit_xl_2_imagenet256_repa": (
        "dit_xl_2.in256_repa", (ADAMW, 1e-4, B999, 0, 1.0), (256, 400_000, "fp16", 0.9999, False)),
    "lightningdit_xl_1_imagenet256": (
        "lightningdit_xl_1.in256_64ep", (ADAMW, 2e-4, B95, 0, None), (1024, 80_000, "bf16", 0.9999, True)),
    "jit_l_16_imagenet256": (
        "jit_l_16.in256", (ADAMW, 2e-4, B95, 5 * 1251, None), (1024, 600 * 1251, "bf16", 0.9999, True)),
    "meanflow_xl_2_imagenet256": (
        "meanflow_xl_2.in256", (ADAMW, 1e-4, B95, 0, None), (256, 240 * 5004, "fp32", 0.9999, True)),
    "imf_b_2_imagenet256": (
        "imf_b_2.in256", (ADAM, 1e-4, B95, 10 * 1251, None), (1024, 640 * 1251, "auto", 0.9999, True)),
    "pmf_b_16_imagenet256": (
        "pmf_b_16.in256", ("muon", 1e-3, None, 0, None), (1024, 320 * 1251, "auto", 0.9999, True)),
    "mdt_xl_2_imagenet256": (
        "mdt_xl_2.in256", (ADAMW, 3e-4, B999, 0, None), (256, 2_000_000, "auto", 0.9999, True)),
    "mdtv2_xl_2_imagenet256": (
        "mdtv2_xl_2.in256", ("adan", 3e-4, None, 0, 1.0), (256, 2_000_000, "auto", 0.9999, True)),
    "uvit_h_2_imagenet256": (
        "uvit_h_2.in256", (ADAMW, 2e-4, (0.99, 0.99), 5000, None), (1024, 500_000, "fp16", 0.9999, True)),
    "ddt_xl_2_imagenet256": (
        "ddt_xl_2.in256", (ADAMW, 1e-4, B95, 0, None), (256, 256 * 5004, "bf16", 0.9999, False)),
    "ditdh_xl_1_imagenet256": (
        "ditdh_xl_1.in256", (ADAMW, 2e-4, B95, 0, 1.0), (1024, 800 * 1251, "fp32", 0.9995, True)),
    "maskdit_xl_2_imagenet256": (
        "maskdit_xl_2.in256", (ADAMW, 1e-4, B999, 0, None), (1024, 2_000_000, "fp16", 0.9999, True)),
}  # fmt: skip
TRAINED = {"imf_b_2_imagenet256": 145_596_960, "pmf_b_16_imagenet256": 175_474_304}
"""Parameters in training, with the blocks of the velocity, which the published files leave out."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_holds_the_published_hyperparameters(name):
    recipe = check_recipe(read_recipe(name, complete=False))
    optim, train = recipe.optim, recipe.train
    _, of_optimizer, of_run = PUBLISHED[name]
    assert (optim.name, optim.lr, optim.betas, optim.warmup_steps, optim.max_grad_norm) == of_optimizer
    run = (train.batch_size, train.max_steps, train.mixed_precision, recipe.ema.decay, recipe.data.flip)
    assert run == of_run
    assert (recipe.model.class_dropout_prob, recipe.data.image_size) == (0.1, 256)
    assert (optim.weight_decay, optim.final_lr_ratio) == (
        0.03 * name.startswith("uvit"),
        0.1 * name.startswith("ditdh"),
    )
    assert optim.schedule == ("linear" if name.startswith("ditdh") else "constant")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_trains_what_its_entry_describes(name, capsys, monkeypatch):
    monkeypatch.setattr("dit.verbs.train._memory", lambda recipe: "")  # of all these large networks takes a minute
    recipe, entry_name = check_recipe(read_recipe(name, complete=False)), PUBLISHED[name][0]
    entry = entries()[entry_name]
    assert recipe.model.name == architecture_of(entry_name)
    process = recipe.process
    if isinstance(process, AverageVelocityConfig):  # its loss says nothing of how the weights are sampled
        assert process.loss != VelocityLoss()
        process = process.model_copy(update={"loss": VelocityLoss()})
    assert process == process_of_entry(entry_name)
    assert entry.published is not None
    published = SamplingConfig(**{field: getattr(entry.published, field) for field in SamplingConfig.model_fields})
    if entry.published.guide is not None:  # a recipe has no weights of a guide
        published = published.model_copy(update={"guidance": 1.0})
    assert recipe.sampling == published
    autoencoder = ["--latents.vae", "folder"] if recipe.latents.vae == "???" else []
    assert main(["train", name, "--dry-run", *autoencoder]) == 0
    parameters = TRAINED.get(name, entry_counts(entry_name).parameters)
    assert f"# parameters: {parameters:,}," in capsys.readouterr().out
