"""Fine-tuning: what a recipe leaves out is the weights' own, and another process than theirs has to be asked for.

Free of torch.
"""

from collections.abc import Mapping
from typing import Any

from dit.config import Recipe
from dit.diffusion.config import AverageVelocityConfig, FlowConfig, ProcessConfig
from dit.errors import ConfigError
from dit.latents.config import COPY_NAME
from dit.zoo.source import Located

FREE = {"time_law", "weighting", "loss", "retrain", "learn_sigma"}
"""Fields of a process that weights can be trained on with other values: what they return keeps its meaning."""
OF_A_FLOW = {"noise_scale", "time_scale", "time_offset", "output_sign"}
"""Fields in which a flow and its average velocities have to agree."""
DECIDED_ANEW = {"input_size", "in_channels", "num_classes", "learn_sigma"}
"""Arguments of the network that data, autoencoder and process decide."""


def complete(data: Mapping[str, Any], weights: Located) -> dict[str, Any]:
    """Return a recipe's unchecked sections with what they leave out of model, process, latents and sampling filled in.

    Args:
        data: sections as `read_recipe` gives them.
        weights: what `model.pretrained` names.
    """
    filled = {**data, **{name: dict(data.get(name) or {}) for name in ("model", "process", "latents", "data")}}
    own = weights.config
    if "name" not in filled["model"]:
        network = own.model.arguments.model_dump(mode="json", exclude=DECIDED_ANEW)
        filled["model"] = {"name": own.model.name, **network, **filled["model"]}
    if "name" not in filled["process"]:
        filled["process"] = {**own.process.model_dump(mode="json"), **filled["process"]}
    elif filled["process"]["name"] == "average_velocity" and isinstance(own.process, FlowConfig):
        filled["process"] = {**own.process.model_dump(mode="json", include=OF_A_FLOW), **filled["process"]}
    if own.latents is not None and "vae" not in filled["latents"]:
        filled["latents"] = {**_codec(weights), **filled["latents"]}
        height, width = (size * own.latents.downscale for size in own.model.arguments.input_size)
        if height == width:
            filled["data"] = {"image_size": height, **filled["data"]}
    given = dict(data.get("sampling") or {})
    options = given.pop("solver", {})  # without a name they are options of the weights' solver
    if isinstance(options, dict) and "name" not in options and not filled["process"].get("retrain"):
        sampling = own.sampling.model_dump(mode="json")
        filled["sampling"] = {**sampling, **given, "solver": {**sampling["solver"], **options}}
    return filled


def check_process(recipe: Recipe, weights: Located) -> None:
    """Refuse a recipe that trains weights by another schedule, prediction, time map or sign than they know.

    Raises:
        ConfigError: naming the fields with both values, unless `process.retrain` is set.
    """
    own = _as_average(weights.config.process, recipe.process)
    known, asked = (process.model_dump(exclude=FREE) for process in (own, recipe.process))
    different = {
        name: (known.get(name), asked.get(name)) for name in known | asked if known.get(name) != asked.get(name)
    }
    if different and not recipe.process.retrain:
        different = {"name": different["name"]} if "name" in different else different
        fields = ", ".join(f"{name} {found} (theirs: {theirs})" for name, (theirs, found) in different.items())
        raise ConfigError(
            f"process: {fields}: the weights of model.pretrained know another process; leave the section out to take "
            "theirs, or set process.retrain true to train this one into them"
        )


def _as_average(own: ProcessConfig, asked: ProcessConfig) -> ProcessConfig:
    """Return the process of weights, a flow as the average velocities that it is at r = t where such are asked for."""
    if not isinstance(own, FlowConfig) or not isinstance(asked, AverageVelocityConfig):
        return own
    if (own.schedule, own.prediction) != ("linear", "velocity"):
        return own
    return AverageVelocityConfig(condition=asked.condition, **own.model_dump(include=OF_A_FLOW))


def _codec(weights: Located) -> dict[str, Any]:
    """Return the fields of a recipe's section `latents` that give the codec of the weights."""
    found = weights.config.latents
    assert found is not None
    vae = str(weights.folder / COPY_NAME) if found.vae == COPY_NAME else found.vae
    if found.revision:
        vae += f"@{found.revision}"
    if found.scale is None or found.shift is None:
        return {"vae": vae}
    if len({*found.scale}) == len({*found.shift}) == 1:
        return {"vae": vae, "scale": found.scale[0], "shift": found.shift[0]}
    return {"vae": vae, "mean": list(found.shift), "std": [1 / scale for scale in found.scale]}
