"""A run folder as training leaves it, with a tiny network of random weights."""

import pytest
import torch
import yaml

from dit import checkpoint
from dit.config import Recipe, check_recipe, dump_recipe
from dit.files import write_json, write_text
from dit.models.registry import create_model
from dit.training.weights.trainable import choose_trained, trained_names

TINY = {"input_size": 8, "hidden_size": 24, "depth": 2, "num_heads": 3, "num_classes": 10, "learn_sigma": False}


def random_model(name="dit_ti_2", seed=0, **arguments):
    """A network in which no parameter is left at zero, so that every one of them matters."""
    torch.manual_seed(seed)
    model = create_model(name, **arguments)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def equal(a, b):
    """Whether two state dicts are the same bit for bit, types included."""
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


class CreatesFile:
    """What a pickle could do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def write_run(folder, *, model, ema, sampling=None, process=None, step=7, codec=None, class_names=None, **train):
    """Write a run folder with one checkpoint."""
    recipe: Recipe = check_recipe(
        {
            "model": {"name": "dit_ti_2", "class_dropout_prob": model.arguments.class_dropout_prob},
            "process": process or {"name": "flow"},
            "sampling": sampling or {"solver": "euler", "steps": 2, "guidance": 1.5},
            "train": {"batch_size": 16, "seed": 3} | train,
        }
    )
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    names = class_names or [str(i) for i in range(model.arguments.num_classes)]
    write_json(
        folder / "run.json",
        {
            "model_arguments": model.arguments.model_dump(mode="json"),
            "codec": codec and codec.model_dump(mode="json"),
            "id2label": {str(i): name for i, name in enumerate(names)},
            "code_version": "0.1.0+abc",
        },
    )
    write_text(folder / "metrics.jsonl", '{"step": 1, "loss": 1.0}\n{"step": 7, "loss": 0.5}\n')
    tensors = {"model": model.state_dict(), "ema": ema.state_dict()}
    checkpoint.save(folder / "checkpoints", step, tensors, {"step": step})
    return folder


def write_lora_run(folder, base, *, codec, pretrained=None):
    """Write a run that trains a network by low-rank updates and its label table whole; return the network it made."""
    trained = {"optim": {"trainable": {"name": "lora", "rank": 2, "also": ["y_embedder.*"]}}}
    recipe = check_recipe(trained)
    tensors = {}
    for name, seed in (("model", 3), ("ema", 4)):
        network = random_model(seed=1, **TINY)
        network.load_state_dict(base.state_dict())
        choose_trained(network, recipe.optim.trainable, seed=0)
        torch.manual_seed(seed)
        for parameter in network.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        tensors[name] = network.state_dict()
    write_run(folder, model=base, ema=base, codec=codec)
    data = yaml.safe_load((folder / "recipe.yaml").read_text()) | trained
    data["model"]["pretrained"] = pretrained
    write_text(folder / "recipe.yaml", dump_recipe(check_recipe(data)))
    tensors["ema"] = {name: tensors["ema"][name] for name in trained_names(network)}
    checkpoint.save(folder / "checkpoints", 8, tensors, {"step": 8})
    return network.eval()


@pytest.fixture(scope="session")
def mnist_codec():
    from dit.latents.codec import load_codec

    return load_codec("mnist")


@pytest.fixture(scope="session")
def exported_once(tmp_path_factory, mnist_codec):
    """An exported folder with samples, made once; copy it."""
    from dit.zoo.export import export

    folder = tmp_path_factory.mktemp("exported_once")
    model = random_model(seed=2, **TINY)
    return export(write_run(folder / "run", model=model, ema=model, codec=mnist_codec.describe()), folder / "out")


@pytest.fixture
def tiny_run(tmp_path, mnist_codec):
    """A run folder, and the network whose weights are its average."""
    model, ema = random_model(seed=1, **TINY), random_model(seed=2, **TINY)
    return write_run(tmp_path / "run", model=model, ema=ema, codec=mnist_codec.describe()), ema
