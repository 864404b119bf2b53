"""Folders for diffusers with code of their own: diffusers makes what we make of the same noise, and they come back."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.models.families import arguments_of, family_of
from dit.models.registry import build
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.zoo.convert import convert
from dit.zoo.entries import architecture_of, entries
from dit.zoo.folder.config import FolderConfig, ModelDescription, read_config
from dit.zoo.layouts.custom import read_custom, write_custom
from dit.zoo.layouts.entry import process_of_entry
from dit.zoo.layouts.native import write_native
from dit.zoo.layouts.original import ForeignModel, ReadOptions
from dit.zoo.pipeline import load_pipeline
from tests.latents.conftest import write_small_rae
from tests.zoo.conftest import equal

STEPS = 4
NORMALISATION = {"scale": (0.5, 1.0, 2.0, 0.25), "shift": (0.1, -0.2, 0.3, 1.0)}
PIXELS = ("jit", "pmf")


def settings():
    """Return (entry, setting) of every family, process and way to sample that the zoo has; all but one are slow."""
    found = {}
    for name, entry in entries().items():
        family = family_of(architecture_of(name)).name
        for kind, setting in (("published", entry.published), ("default", entry.sampling)):
            if setting is not None:
                way = setting.solver.name, setting.grid.name, setting.guidance_channels, setting.guidance_schedule
                key = family, process_of_entry(name).name, way, setting.guidance_interval is None
                found.setdefault(key, (name, kind))
    first = list({key[:2]: case for key, case in reversed(found.items())}.values())
    return [pytest.param(*case, marks=() if case in first else pytest.mark.slow) for case in found.values()]


def tiny_model(name, kind):
    """A model as an entry's, of the family's smallest network with random weights, for the digits."""
    entry, family = entries()[name], family_of(architecture_of(name))
    tiny = next(variant for variant in family.variants if "_ti_" in variant)
    kept = {key: value for key, value in entry.arguments.items() if key not in ("input_size", "in_channels")}
    size = {"in_channels": 1, "input_size": 32} if family.name in PIXELS else {"in_channels": 4, "input_size": 8}
    arguments = arguments_of(tiny, **{"num_classes": 10} | kept | size)
    torch.manual_seed(0)
    network = build(tiny, arguments)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    setting = entry.sampling if kind == "default" else entry.published.sampling
    if setting.steps > STEPS:
        setting = setting.model_copy(update={"steps": STEPS})
    codec = load_codec("pixels_grey" if family.name in PIXELS else "mnist")
    config = FolderConfig(
        model=ModelDescription(name=tiny, arguments=arguments),
        process=process_of_entry(name),
        latents=codec.describe() if family.name in PIXELS else codec.describe().model_copy(update=NORMALISATION),
        sampling=setting,
        id2label={str(i): f"digit {i}" for i in range(10)},
    )
    return ForeignModel(config, dict(network.eval().state_dict()))


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Let diffusers load a folder, with its code copied to a place of the test's own."""
    from diffusers import DiffusionPipeline
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])

    def load(folder, **options):
        pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return load


def written(model, folder):
    folder.mkdir()
    write_custom(model, folder)
    return folder


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def draw_both(pipe, folder, labels, **changes):
    """Return what diffusers and what we make of the same start noise and the same noise of the steps."""
    ours = load_pipeline(folder)
    shape = (len(labels), *ours.latent_shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    of_steps = torch.Generator().manual_seed(2)
    given = {{"steps": "num_inference_steps", "guidance": "guidance_scale"}[key]: changes[key] for key in changes}
    theirs = pipe(labels, latents=noise, generator=of_steps, output_type="latent", **given).images
    of_steps.manual_seed(2)
    setting = ours.settings(**changes)
    step_noise = torch.stack([torch.randn(shape, generator=of_steps) for _ in range(setting.steps)])
    start = pipe.scheduler.init_noise_sigma * noise
    sampled = sample(
        ours.model, ours.process, torch.tensor(labels), ours.latent_shape,
        sampling=setting, noise=start, step_noise=step_noise,
    )  # fmt: skip
    return theirs, sampled.latents


@pytest.mark.parametrize(("name", "kind"), settings())
def test_diffusers_makes_what_we_make_of_the_same_noise(name, kind, tmp_path, load):
    folder = written(tiny_model(name, kind), tmp_path / "folder")
    pipe = load(folder)
    theirs, ours = draw_both(pipe, folder, [1, 9, 3] if pipe.transformer.arguments.num_classes else [0, 0, 0])
    error = relative(theirs, ours)
    print(f"{name} {kind}: {error:.1e}")
    assert error < 1e-5  # ours computes the modulations of all times in one product; 1e-6 was found


def test_classes_are_asked_for_as_here(tmp_path, load):
    pipe = load(written(tiny_model("dit_xl_2.in256", "published"), tmp_path / "folder"))
    by_name, by_id = (
        pipe(labels, generator=torch.Generator().manual_seed(0), output_type="latent", num_inference_steps=2).images
        for labels in (["digit 3", "Digit 7", 1], "3,7,1")
    )
    assert torch.equal(by_name, by_id)
    with pytest.raises(ValueError, match=r"no class is named 'digit 77'; .* Did you mean 'digit 7'"):
        pipe("digit 77")
    with pytest.raises(ValueError, match="expected an id from 0 to 9, found 10"):
        pipe([10])


def test_a_weaker_network_guides_in_diffusers_as_it_does_here(tmp_path, load):
    strong = tiny_model("ditdh_xl_1.in256", "published")
    weak = ForeignModel(strong.config, {key: 0.5 * tensor for key, tensor in strong.tensors.items()})
    folder, guide = written(strong, tmp_path / "strong"), written(weak, tmp_path / "weak")
    pipe = load(folder, guide=load(guide).transformer)
    noise = torch.randn(2, 4, 8, 8)
    theirs = pipe([1, 2], latents=noise, output_type="latent").images
    start = pipe.scheduler.init_noise_sigma * noise
    expected = load_pipeline(folder, guide=guide).sample_latents([1, 2], noise=start)
    assert relative(theirs, expected) < 1e-5
    assert relative(load_pipeline(folder).sample_latents([1, 2], noise=start), expected) > 1e-3


FLOW = "lightningdit_xl_1.in256_800ep"


@pytest.fixture
def flow_folder(tmp_path):
    return written(tiny_model(FLOW, "published"), tmp_path / "folder")


def test_steps_guidance_names_and_pictures_are_ours(flow_folder, load):
    pipe = load(flow_folder)
    assert relative(*draw_both(pipe, flow_folder, [1, 2], steps=3, guidance=2.5)) < 1e-5
    noise = torch.randn(2, 4, 8, 8)
    named = pipe(["digit 7", "digit 0"], latents=noise).images
    for picture, same in zip(named, pipe([7, 0], latents=noise).images, strict=True):
        assert picture.tobytes() == same.tobytes()
    for picture, own in zip(named, load_pipeline(flow_folder)([7, 0], noise=noise), strict=True):
        assert (picture.mode, picture.size) == (own.mode, own.size) == ("L", (32, 32))
        # Pixels at a rounding boundary: the autoencoder of diffusers adds in another order.
        assert max(abs(a - b) for a, b in zip(picture.tobytes(), own.tobytes(), strict=True)) <= 1
    with pytest.raises(ValueError, match="classes: expected an id from 0 to 9, found 10"):
        pipe([10])


def test_folders_that_are_loaded_together_do_not_disturb_each_other(tmp_path, load):
    """Diffusers imports the code of all of them from one place, and runs a file again for each folder that has it."""
    folders = [written(tiny_model(name, "published"), tmp_path / name) for name in (FLOW, "jit_b_16.in256")]
    folders.append(folders[0])
    pipes = [load(folder) for folder in folders]
    for pipe, folder in zip(pipes, folders, strict=True):
        assert relative(*draw_both(pipe, folder, [1, 2])) < 1e-5


def test_a_network_that_was_trained_with_its_guidance_takes_no_other(tmp_path, load):
    pipe = load(written(tiny_model("meanflow_b_4.in256", "default"), tmp_path / "folder"))
    with pytest.raises(ValueError, match="guidance_scale: expected 1, for this network was trained with its guidance"):
        pipe([1], guidance_scale=2.0)


ALONE = """
import sys
sys.modules["dit"] = None  # an import of it fails
import torch
from diffusers import DiffusionPipeline
folder, noise, out = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
torch.save(pipe([3, 1, 4], latents=torch.load(noise), output_type="latent").images, out)
"""


def test_diffusers_opens_and_samples_it_where_this_package_is_not(flow_folder, tmp_path):
    noise = torch.randn(3, 4, 8, 8)
    torch.save(noise, tmp_path / "noise.pt")
    paths = [str(path) for path in (flow_folder, tmp_path / "noise.pt", tmp_path / "out.pt")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", ALONE, *paths]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    expected = load_pipeline(flow_folder).sample_latents([3, 1, 4], noise=noise)
    assert relative(torch.load(tmp_path / "out.pt"), expected) < 1e-5


@pytest.mark.parametrize("name", ["dit_xl_2.in256_repa", "jit_b_16.in256", "maskdit_xl_2.in256"])
def test_a_folder_comes_back_without_its_code(name, tmp_path):
    model = tiny_model(name, "default")
    folder = written(model, tmp_path / "folder")
    for path in folder.rglob("*.py"):
        path.write_text("raise SystemExit('the code was run')")
    convert(folder, tmp_path / "native")
    assert read_config(tmp_path / "native").model_dump() == model.config.model_dump()
    assert equal(load_pipeline(tmp_path / "native").model.state_dict(), model.tensors)
    assert equal(load_pipeline(folder).model.state_dict(), model.tensors)


def test_what_diffusers_saved_again_is_read(flow_folder, tmp_path, load):
    pipe = load(flow_folder)
    with torch.no_grad():
        next(pipe.transformer.parameters()).add_(1)
        next(pipe.vae.parameters()).add_(1)
    pipe.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "dit_config.json").exists()
    again, before = load_pipeline(tmp_path / "again"), load_pipeline(flow_folder)
    assert equal(again.model.state_dict(), dict(pipe.transformer.state_dict()))
    assert (again.config.latents.vae, again.config.latents.scale) == ("vae", before.config.latents.scale)
    assert torch.equal(next(again.codec.autoencoder.parameters()), next(pipe.vae.parameters()))
    for part in ("model", "process", "sampling", "id2label"):
        assert getattr(again.config, part) == getattr(before.config, part)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("transformer/config.json", {"_class_name": "UNet"}, "_class_name: expected one of DiTModel, .* found 'UNet'"),
        ("transformer/config.json", {"num_heads": "three"}, "num_heads"),
        ("transformer/config.json", {"hidden_size": 384}, "384"),
        ("scheduler/scheduler_config.json", {"process": {"name": "flaw"}}, "process"),
        ("model_index.json", {"latent_space": {"scale": 1}}, "latents"),
    ],
)
def test_a_damaged_folder_is_refused(flow_folder, tmp_path, file, change, message):
    path = flow_folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DitError, match=message):
        convert(flow_folder, tmp_path / "back")


def test_a_folder_tells_everything_itself(flow_folder):
    with pytest.raises(ConfigError, match="--vae: expected it left out"):
        read_custom(flow_folder, ReadOptions(vae="mnist"))


def test_statistics_of_every_position_are_where_diffusers_looks_for_them(tmp_path):
    """Its class takes their shape from the configuration."""
    codec = load_codec(write_small_rae(tmp_path / "rae"))
    model = tiny_model("ditdh_xl_1.in256", "published")
    config = model.config.model_copy(update={"latents": codec.describe()})
    folder = written(ForeignModel(config, model.tensors, autoencoder_folder=tmp_path / "rae"), tmp_path / "folder")
    described = json.loads((folder / "vae" / "config.json").read_text())
    tensors = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    for name in ("latents_mean", "latents_std"):
        assert torch.equal(torch.tensor(described[name]), tensors[f"_{name}"])
    assert described["decoder_hidden_size"] == 16
    again = load_codec(str(folder / "vae"))
    assert torch.equal(again.shift, codec.shift)
    codec.with_normalisation([1.0] * 32, [0.0] * 32)
    config = model.config.model_copy(update={"latents": codec.describe()})
    with pytest.raises(ConfigError, match="expected latents normalised by the statistics"):
        written(ForeignModel(config, model.tensors, autoencoder_folder=tmp_path / "rae"), tmp_path / "other")


def test_what_only_this_package_has_is_refused(tmp_path):
    model = tiny_model(FLOW, "default")
    for change, message in [
        ({"latents": None}, "expected a model whose autoencoder is known; give --vae"),
        ({"sampling": SamplingConfig.model_validate({"guidance_routing": {"rejoin_after": 3}})}, "guidance_routing"),
    ]:
        other = ForeignModel(model.config.model_copy(update=change), model.tensors)
        with pytest.raises(ConfigError, match=message):
            write_custom(other, tmp_path)


def test_the_card_says_that_the_folder_holds_code(tmp_path, load, monkeypatch):
    model = tiny_model(FLOW, "default")
    (tmp_path / "native").mkdir()
    write_native(model, tmp_path / "native")
    notices = convert(tmp_path / "native", tmp_path / "folder", to="diffusers")
    assert "DiTPipeline can't hold it (it is a lightningdit, which it lacks)" in notices[0]
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "code in this folder" in card
    assert "pip install diffusers torch accelerate\n" in card
    (snippet,) = [part for part in card.split("```python\n")[1:] if "DiffusionPipeline" in part]
    monkeypatch.chdir(tmp_path)
    exec(snippet.partition("```")[0], {})
    assert (tmp_path / "sample.png").is_file()
