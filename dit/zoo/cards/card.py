"""Model cards: everything a reader asks of a checkpoint, from what is in its exported folder alone. Free of torch.

The text is `model_cards/template.md`; names that come from data (titles, class names) are escaped, so that they come
out literally, and the metadata goes through a YAML dumper.
"""

import html
import json
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from dit.data.registry import find_data
from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.figures import Figures, read_figures
from dit.files import sha256, write_text
from dit.hub_ids import HubId
from dit.sampling.config import SamplingConfig
from dit.zoo.entries import entries
from dit.zoo.folder.config import CONFIG_NAME, FOREIGN_CONFIG_NAME, FolderConfig, is_exported, read_config

CARD_NAME = "README.md"
DATASETS_ON_THE_HUB = "hf://datasets/"
HUB_IDS = {"imagenet-1k": "ILSVRC/imagenet-1k"}
"""Data sets that published weights name -> their id on the Hub."""

MARKUP = re.compile(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))")  # an underscore inside a word has no meaning


def write_card(folder: str | Path, *, title: str | None = None, source: str | None = None) -> Path:
    """Render the card of an exported folder into its README.md."""
    path = Path(folder) / CARD_NAME
    write_text(path, render_card(folder, title=title, source=source))
    return path


def renew_card(folder: str | Path) -> None:
    """Render the card of an exported folder anew where it has one: its figures changed."""
    if is_exported(folder) and (Path(folder) / CARD_NAME).is_file():
        write_card(folder)


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
        reported=reported(config.provenance.name),
        weights=weight_table(folder),
        found={path.name for path in folder.iterdir()},
        apart=config.latents is None,
        holds_code=any(folder.glob("*.py")),
        needs=_needs(config),
    )


def render(
    config: FolderConfig,
    *,
    title: str,
    source: str,
    library: str = "dit",
    measured: Figures | None = None,
    **shown: Any,
) -> str:
    """Render the card of a described model.

    Args:
        config: description.
        title: headline.
        source: how the snippet names the model.
        library: that loads it: dit or diffusers.
        measured: figures of its `eval.json`.
        shown: what there is of `weights` (name, bytes and SHA-256 of every file), `found` (files of its folder),
            `reported` (figures of others: measure, value, setting), `places` (where the weights are, if elsewhere),
            `by_hand` (name of the file that a person fetches), `apart` (whether the autoencoder is to be converted),
            `holds_code` (whether the folder does, for diffusers) and `needs` (what that is installed with).
    """
    title = " ".join(title.split())
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"text": as_text, "cell": as_text, "code": as_code, "json": json.dumps, "setting": in_words}
    environment.filters["shell"] = shlex.quote
    return environment.from_string((cards_folder() / "template.md").read_text(encoding="utf-8")).render(
        config=config,
        facts=config.provenance,
        metadata=metadata(config, measured, title=title, library=library),
        title=title,
        source=source,
        library=library,
        data=dataset_name(config),
        process=process_name(config),
        autoencoder=autoencoder_name(config),
        figures=measured.measured if measured else [],
        settings=evaluation_settings(measured, config),
        **{"weights": [], "found": set(), "reported": [], "places": [], "by_hand": None, "apart": False}
        | {"holds_code": False, "needs": []}
        | shown,
    )


def _needs(config: FolderConfig) -> list[str]:
    """Return the packages by which diffusers alone samples a model with code of its own."""
    found = ["diffusers", "torch", "accelerate"]
    if config.latents is not None and config.latents.class_name == "AutoencoderRAE":
        found.append("transformers")
    return [*found, "torchdiffeq"] if config.sampling.solver.name == "dopri5" else found


def reported(name: str | None) -> list[tuple[str, str, str]]:
    """Return (measure, value, setting) of every figure that the authors of a zoo's weights report."""
    entry = entries().get(name or "")
    return [(report.metric, f"{report.value:g}", report.setting) for report in (entry.reported if entry else [])]


def in_words(sampling: SamplingConfig) -> str:
    """Return a sampling section in words: solver, steps and guidance, and of the rest what differs from the default."""
    given = sampling.model_dump(mode="json", exclude_defaults=True)
    solver = _words(sampling.solver.model_dump(mode="json", exclude_defaults=True))
    num = "1 step" if sampling.steps == 1 else f"{sampling.steps} steps"
    guided = f"guidance {sampling.guidance:g} on {sampling.guidance_channels} channels"
    parts = [solver, num, guided if sampling.guidance != 1 else "no guidance"]
    usual = ("solver", "steps", "guidance", "guidance_channels")
    return ", ".join([*parts, *(f"{key} {_words(value)}" for key, value in given.items() if key not in usual)])


def _words(value: Any) -> str:
    if isinstance(value, dict):
        options = ", ".join(f"{key} {_words(inner)}" for key, inner in value.items() if key != "name")
        return value["name"] + (f" ({options})" if options else "")
    if isinstance(value, list):
        return " to ".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


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
    from huggingface_hub import EvalResult, ModelCardData

    facts = config.provenance
    data = dataset_id(config)
    base = facts.base_model if facts.base_model and HubId.parse(facts.base_model) else None
    relation: dict[str, Any] = {"base_model_relation": "adapter"} if base and config.adapter_of else {}
    results = [
        EvalResult(
            task_type="unconditional-image-generation",
            dataset_type=data or "other",
            dataset_name=dataset_name(config),
            metric_type=figure.name,
            metric_name=figure.title,
            metric_value=round(figure.value, 6),
            metric_args=figure.facts | evaluation_settings(evaluation, config),  # all that is needed to repeat it
        )
        for figure in (evaluation.measured if evaluation else [])
    ]
    card = ModelCardData(
        library_name=library,
        pipeline_tag="unconditional-image-generation",
        tags=[
            "dit",
            "diffusion-transformer",
            config.process.name,
            *(["class-conditional"] if config.num_classes else []),
            *(["lora"] if config.adapter_of else []),
        ],
        license=facts.license,
        license_name=facts.license_name,
        license_link=facts.license_link,
        datasets=[data] if data else None,
        base_model=base,
        **relation,
        model_name=title,
        eval_results=results or None,
    )
    return card.to_yaml()


def evaluation_settings(evaluation: Figures | None, config: FolderConfig) -> dict[str, Any]:
    """Return what the figures of an `eval.json` depend on."""
    if evaluation is None:
        return {}
    made = evaluation.made
    sampling = made.get("sampling", {})
    solver = sampling.get("solver")
    networks = [network["weights_sha256"] for network in evaluation.networks.values()]
    return {
        "solver": solver["name"] if isinstance(solver, dict) else solver,  # before format 2 a name alone
        **{key: sampling.get(key) for key in ("steps", "guidance", "guidance_channels", "guidance_interval")},
        "vae": config.latents.vae if config.latents else None,
        "label_balance": made.get("order"),
        **{key: made.get(key) for key in ("rounding", "precision", "seed")},
        "reference_sha256": (evaluation.reference or {}).get("sha256"),
        "features_sha256": evaluation.features_sha256 or " ".join(networks) or None,
        "evaluator": "dit " + evaluation.versions.get("dit", ""),
    }


def process_name(config: FolderConfig) -> str:
    """Return the process in words."""
    process = config.process
    if isinstance(process, GaussianConfig):
        variance = ", learned variance" if process.learn_sigma else ""
        return f"Gaussian diffusion, {process.num_steps} {process.betas} betas{variance}"
    if isinstance(process, FlowConfig) and process.schedule.startswith("vp"):
        return f"diffusion in continuous time, {process.prediction} prediction"
    return {"flow": "flow matching", "edm": "denoising with preconditioning (EDM)"}.get(
        process.name, "flow matching of average velocities"
    )


def autoencoder_name(config: FolderConfig) -> str:
    """Return the autoencoder's name; "none" where the network sees the pixels."""
    if config.latents is None:
        return config.provenance.autoencoder or "unknown"
    return "none" if config.latents.class_name == "Pixels" else config.latents.vae


def dataset_name(config: FolderConfig) -> str:
    """Return the training data's name; of a path its last part."""
    data = str(config.provenance.data or "unknown data")
    return data if HubId.parse(data) else Path(data).name


def dataset_id(config: FolderConfig) -> str | None:
    """Return the training data's id on the Hub, where it has one."""
    data = str(config.provenance.data or "").removeprefix(DATASETS_ON_THE_HUB)
    hub_id = HubId.parse(data)
    if registered := find_data(data):
        return registered.hub_id
    return HUB_IDS.get(data) or (hub_id.repository if hub_id and not Path(data).exists() else None)


def weight_table(folder: Path) -> list[tuple[str, int, str]]:
    """Return (name, bytes, SHA-256) of every weight file, those of the autoencoder included."""
    paths = sorted(folder.rglob("*.safetensors"))  # but for what an evaluation that goes on has done so far
    paths = [path for path in paths if path.parent.suffix != ".parts"]
    return [(path.relative_to(folder).as_posix(), path.stat().st_size, sha256(path)) for path in paths]
