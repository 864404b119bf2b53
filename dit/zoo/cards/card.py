"""Model cards: everything a reader asks of a checkpoint, from what is in its exported folder alone. Free of torch.

The text is `model_cards/template.md`; names that come from data (titles, class names) are escaped, so that they come
out literally, and the metadata goes through a YAML dumper.
"""

import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from dit.data.registry import find_data
from dit.diffusion.config import FlowConfig
from dit.files import sha256, write_text
from dit.hub_ids import HubId
from dit.models.counts import count
from dit.run_files import RECIPE_NAME
from dit.zoo.folder.config import CONFIG_NAME, FOREIGN_CONFIG_NAME, FolderConfig, read_config
from dit.zoo.folder.figures import Figures, read_figures

CARD_NAME = "README.md"
HUB_IDS = {"imagenet-1k": "ILSVRC/imagenet-1k"}
"""Data sets that published weights name -> their id on the Hub."""

MARKUP = re.compile(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))")  # an underscore inside a word has no meaning
MAX_CLASSES_SHOWN = 20


def write_card(folder: str | Path, *, title: str | None = None, source: str | None = None) -> Path:
    """Render the card of an exported folder into its README.md."""
    path = Path(folder) / CARD_NAME
    write_text(path, render_card(folder, title=title, source=source))
    return path


def render_card(folder: str | Path, *, title: str | None = None, source: str | None = None) -> str:
    """Render the card of an exported folder.

    Args:
        folder: exported folder.
        title: headline; the model's name by default.
        source: how the snippet names the model; the folder's name by default.

    Raises:
        DitError: the folder is not an exported folder, or is damaged.
    """
    folder = Path(folder)
    in_diffusers = (folder / FOREIGN_CONFIG_NAME).is_file()
    config = read_config(folder, FOREIGN_CONFIG_NAME if in_diffusers else CONFIG_NAME)
    return render(
        config,
        title=title or f"{config.model.name} trained on {dataset_name(config)}",
        source=source or folder.name,
        library="diffusers" if in_diffusers else "dit",
        measured=read_figures(folder),
        has_recipe=(folder / RECIPE_NAME).is_file(),
        files=weight_table(folder),
        has_samples=(folder / "samples.png").is_file(),
        has_loss_curve=(folder / "loss.png").is_file(),
        has_failures=(folder / "failures.png").is_file(),
    )


def render(
    config: FolderConfig,
    *,
    title: str,
    source: str,
    library: str = "dit",
    measured: Figures | None = None,
    reported: Sequence[tuple[str, str, str]] = (),
    places: Sequence[str] = (),
    has_recipe: bool = False,
    **shown: Any,
) -> str:
    """Render the card of a described model.

    Args:
        config: description.
        title: headline.
        source: how the snippet names the model.
        library: that loads it: dit or diffusers.
        measured: figures of its `eval.json`.
        reported: figures of others: (measure, value, setting).
        places: where its weights are, if not in the same folder.
        has_recipe: whether its recipe is in the same folder.
        shown: what of `files`, `has_samples`, `has_loss_curve` and `has_failures` there is.
    """
    title = " ".join(title.split())
    nothing = {"files": [], "has_samples": False, "has_loss_curve": False, "has_failures": False}
    return (
        _environment()
        .from_string(card_template())
        .render(
            metadata=metadata(config, measured, title=title, library=library),
            title=title,
            description=describe(config),
            facts=model_facts(config),
            snippet=snippet(config, source),
            diffusers_snippet=diffusers_snippet(source) if library == "diffusers" else "",
            classes=class_list(config.class_names),
            limits=limits(config),
            training=training_facts(config, has_recipe),
            evaluation=evaluation_rows(measured, config),
            reported=reported,
            places=places,
            license=license_text(config),
            **nothing | shown,
        )
    )


def card_template() -> str:
    """Return the template's text: from the wheel, or from `model_cards/` of a checkout."""
    return (cards_folder() / "template.md").read_text(encoding="utf-8")


def cards_folder() -> Path:
    """Return the folder of the template and of the zoo's cards."""
    installed = Path(str(files("dit.zoo"))) / "model_cards"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "model_cards"


def as_text(value: Any) -> str:
    """Escape data for running Markdown text: one line, nothing in it has a meaning of its own."""
    return MARKUP.sub(r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def as_code(value: Any) -> str:
    """Put data into a code span, in which nothing but the fence has a meaning."""
    text = " ".join(str(value).split())
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    padding = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def metadata(config: FolderConfig, evaluation: Figures | None, *, title: str, library: str) -> str:
    """Return the card's YAML block for the Hub, without its fences."""
    from huggingface_hub import ModelCardData

    facts = config.provenance
    data = dataset_id(config)
    card = ModelCardData(
        library_name=library,
        pipeline_tag="unconditional-image-generation",
        tags=[
            "dit",
            "diffusion-transformer",
            config.process.name,
            *(["class-conditional"] if config.num_classes else []),
        ],
        license=facts.license,
        license_name=facts.license_name,
        license_link=facts.license_link,
        datasets=[data] if data else None,
        base_model=facts.base_model if facts.base_model and HubId.parse(facts.base_model) else None,
        model_name=title,
        eval_results=eval_results(config, evaluation) or None,
    )
    return card.to_yaml()


def eval_results(config: FolderConfig, evaluation: Figures | None) -> list[Any]:
    """Turn the figures of `eval.json` into entries of the Hub's model-index, with all that is needed to repeat them."""
    from huggingface_hub import EvalResult

    how = evaluation_settings(evaluation, config)
    return [
        EvalResult(
            task_type="unconditional-image-generation",
            dataset_type=dataset_id(config) or "other",
            dataset_name=dataset_name(config),
            metric_type=kind,
            metric_name=name,
            metric_value=value,
            metric_args=how,
        )
        for kind, name, value in measures(evaluation)
    ]


def measures(evaluation: Figures | None) -> list[tuple[str, str, float]]:
    """Return (type, name, value) of every figure in an `eval.json`."""
    if evaluation is None:
        return []
    features = evaluation.features
    is_fid = features.startswith("inception")
    found = [
        ("accuracy", "class accuracy", evaluation.accuracy),
        ("fid" if is_fid else "frechet_distance", "FID" if is_fid else f"Frechet distance ({features})",
         evaluation.frechet_distance),
    ]  # fmt: skip
    return [(kind, name, round(value, 6)) for kind, name, value in found if value is not None]


def evaluation_settings(evaluation: Figures | None, config: FolderConfig) -> dict[str, Any]:
    """Return what the figures of an `eval.json` depend on."""
    if evaluation is None:
        return {}
    sampling = evaluation.sampling
    solver = sampling.get("solver")
    return {
        "num_samples": evaluation.num,
        "solver": solver["name"] if isinstance(solver, dict) else solver,  # before format 2 a name alone
        "steps": sampling.get("steps"),
        "guidance": sampling.get("guidance"),
        "guidance_channels": sampling.get("guidance_channels"),
        "vae": config.latents.vae if config.latents else None,
        "label_balance": "class i % K at position i",
        "seed": evaluation.seed,
        "reference_sha256": evaluation.reference.sha256,
        "features_sha256": evaluation.features_sha256,
        "evaluator": "dit " + evaluation.versions.get("dit", ""),
    }


def evaluation_rows(evaluation: Figures | None, config: FolderConfig) -> list[tuple[str, str, str]]:
    """Return (measure, value, how) for the card's table."""
    how = evaluation_settings(evaluation, config)
    note = ", ".join(f"{key} {value}" for key, value in how.items() if value is not None and "sha256" not in key)
    rows = [(name, f"{value:.4g}", note) for _, name, value in measures(evaluation)]
    if evaluation and evaluation.frechet_floor is not None:
        rows.append(("its floor", f"{evaluation.frechet_floor:.4g}", "training images against the same reference"))
    return rows


def describe(config: FolderConfig) -> str:
    """Return one sentence on what the model is."""
    kind = f"class-conditional on {config.num_classes} classes" if config.num_classes else "unconditional"
    return (
        f"A Diffusion Transformer ({config.model.name}), {kind}, trained on {dataset_name(config)} "
        f"by {process_name(config)} on the latents of the autoencoder {autoencoder_name(config)}. The weights are the "
        "exponential moving average of the training's."
    )


def model_facts(config: FolderConfig) -> list[tuple[str, str]]:
    """Return the rows of the card's first table."""
    arguments = config.model.arguments
    parameters, macs = count(config.model.name, arguments)
    height, width = arguments.input_size
    sampling = config.sampling
    words = {"hidden_size": "width {}", "depth": "depth {}", "num_heads": "{} heads", "patch_size": "patch {}"}
    shape = [form.format(getattr(arguments, name)) for name, form in words.items() if hasattr(arguments, name)]
    return [
        ("architecture", f"{config.model.name}: {', '.join(shape)}"),
        ("parameters", f"{parameters:,}"),
        ("cost of a network call", f"{macs / 1e9:.2f} GMAC"),
        ("latents", f"{arguments.in_channels} x {height} x {width}, autoencoder {autoencoder_name(config)}"),
        ("process", process_name(config)),
        ("sampling defaults", f"{sampling.solver.name}, {sampling.steps} steps, guidance {sampling.guidance:g} "
                              f"on {sampling.guidance_channels} channels"),
    ]  # fmt: skip


def training_facts(config: FolderConfig, has_recipe: bool) -> list[tuple[str, str]]:
    """Return the rows of the card's table on training."""
    facts = config.provenance
    rows = [
        ("data", dataset_name(config)),
        ("recipe", RECIPE_NAME if has_recipe else facts.recipe),
        ("steps", facts.steps),
        ("images seen", facts.images_seen),
        ("seed", facts.seed),
        ("started from", facts.base_model),
        ("code", f"dit {facts.code_version}" if facts.code_version else None),
        ("converted from", facts.converted_from),
        ("paper", facts.paper),
    ]
    return [(name, f"{value:,}" if type(value) is int else str(value)) for name, value in rows if value is not None]


def process_name(config: FolderConfig) -> str:
    """Return the process in words."""
    if isinstance(config.process, FlowConfig):
        return "flow matching"
    variance = ", learned variance" if config.process.learn_sigma else ""
    return f"Gaussian diffusion, {config.process.num_steps} {config.process.betas} betas{variance}"


def autoencoder_name(config: FolderConfig) -> str:
    """Return the autoencoder's name, or that it is not known."""
    return config.latents.vae if config.latents else "unknown"


def dataset_name(config: FolderConfig) -> str:
    """Return the training data's name; of a path its last part."""
    data = str(config.provenance.data or "unknown data")
    return data if HubId.parse(data) else Path(data).name


def dataset_id(config: FolderConfig) -> str | None:
    """Return the training data's id on the Hub, where it has one."""
    data = str(config.provenance.data or "")
    hub_id = HubId.parse(data)
    if registered := find_data(data):
        return registered.hub_id
    return HUB_IDS.get(data) or (hub_id.repository if hub_id and not Path(data).exists() else None)


def class_list(names: Sequence[str]) -> str:
    """Return the class names as code spans, the first of them where there are many."""
    shown = ", ".join(f"{i} {as_code(name)}" for i, name in enumerate(names[:MAX_CLASSES_SHOWN]))
    return shown + (f" and {len(names) - MAX_CLASSES_SHOWN} more" if len(names) > MAX_CLASSES_SHOWN else "")


def snippet(config: FolderConfig, source: str) -> str:
    """Return code that makes images of the first classes."""
    classes = "" if config.num_classes == 0 else f"{list(range(min(4, config.num_classes)))}, "
    num = "num=4, " if config.num_classes == 0 else ""
    return (
        "import dit\n\n"
        f"pipe = dit.load_pipeline({json.dumps(source)})\n"
        f"images = pipe({classes}{num}seed=0)  # PIL images\n"
        'images[0].save("sample.png")'
    )


def diffusers_snippet(source: str) -> str:
    """Return code that makes images with diffusers alone."""
    return (
        "from diffusers import DiTPipeline\n\n"
        f"pipe = DiTPipeline.from_pretrained({json.dumps(source)})\n"
        "images = pipe(class_labels=[0, 1], guidance_scale=4.0, num_inference_steps=50).images"
    )


def weight_table(folder: Path) -> list[tuple[str, int, str]]:
    """Return (name, bytes, SHA-256) of every weight file, those of the autoencoder included."""
    paths = sorted(folder.rglob("*.safetensors"))
    return [(path.relative_to(folder).as_posix(), path.stat().st_size, sha256(path)) for path in paths]


def limits(config: FolderConfig) -> str:
    """Return what the model is for and what it is not."""
    classes = "its classes" if config.num_classes else "its training data"
    return str(
        config.provenance.limits
        or "Research on generative models and teaching. The model knows nothing but "
        f"{classes}, at one resolution; it repeats the biases of its training data, and its samples are not evidence "
        "of anything. It is not meant for making images that are passed off as real."
    )


def license_text(config: FolderConfig) -> str:
    """Return the sentence on the license of the weights."""
    facts = config.provenance
    name = facts.license_name or facts.license
    if not name:
        return "No license was chosen yet: nobody may use these weights."
    link = f" ({facts.license_link})" if facts.license_link else ""
    base = f" They start from {facts.base_model}, whose license they inherit." if facts.base_model else ""
    return f"The weights are under {name}{link}.{base} The code is under Apache-2.0."


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"text": as_text, "cell": as_text, "code": as_code}
    return environment
