"""`dit evaluate`: the quality of a model's samples against held-out images, or of samples in files by a protocol."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from dit.config import Recipe
    from dit.evaluation.evaluate import EvaluatedBatch
    from dit.zoo.pipeline import Pipeline

SECTIONS = ("sampling", "evaluation")
REPORT = "eval.json"


def run(
    source: str,
    /,
    num: int | None = None,
    features: str | None = None,
    data: str | None = None,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    guidance_interval: str | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    likelihood: bool = False,
    quantize: Literal["int8_weight", "int8"] | None = None,
    protocol: Literal["adm", "edm2", "dgm-eval", "torch-fidelity", "clean", "cmmd"] | None = None,
    reference: Path | None = None,
    metrics: str | None = None,
    allow_jpeg: bool = False,
    device: str | None = None,
    out: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Measure a model's samples: class accuracy and Frechet distance, beside the distance that real images reach.

    What is left out comes from the recipe and the sampling defaults that the model was exported with; any other field
    can be set by --sampling.FIELD VALUE and --evaluation.FIELD VALUE.

    With --protocol, samples that lie in files are measured as published figures are: an .npz with arr_0, a folder or a
    tar of PNGs. The report holds all that decides the figures, and results.csv beside it gets a row.

    Args:
        source: run folder, exported folder, .safetensors file of either, zoo name or Hub id; with --protocol an .npz, a
            folder or a tar of images.
        num: number of samples, all classes in turn.
        features: feature extractor: mnist, inception-v3-compat or timm/MODEL.
        data: source of the held-out images, where it is another one here than in the recipe.
        steps: solver steps, at least 1.
        solver: name of the solver; below, under --sampling.solver.name, is the list.
        guidance: scale of classifier-free guidance; 1 is off.
        guidance_interval: times between which guidance acts, such as 0.1,0.8; outside, the network is called once.
        seed: seed of the samples.
        batch_size: samples at a time; it changes memory and speed, not the samples.
        likelihood: also compute how likely held-out latents are, in nats and bits per dimension of the latent; where
            no feature extractor is known, only that. --evaluation.likelihood.num says of how many.
        quantize: as in `dit sample`; the report is eval.KIND.json here by default.
        protocol: how samples in files are measured: it fixes network, resizing, arithmetic and splits.
        reference: what they are measured against: an .npz of ADM's, JiT's or `dit reference`, or EDM2's .pkl.
        metrics: figures of the protocol to compute, such as fid,inception_score; all by default.
        allow_jpeg: take JPEGs too, whose losses change the figures.
        device: such as cpu, cuda or cuda:1; the first accelerator, else the CPU, by default.
        out: where the figures are written; eval.json in the model's folder, of a zoo name or Hub id here, of files
            SOURCE.PROTOCOL.json.
        overrides: `sampling.FIELD` or `evaluation.FIELD` -> value.
    """
    from dit.errors import ConfigError

    of_files = {"reference": reference, "metrics": metrics, "allow_jpeg": allow_jpeg or None}
    of_models = {"num": num, "features": features, "data": data, "steps": steps, "solver": solver, "guidance": guidance}
    of_models |= {
        "guidance_interval": guidance_interval,
        "seed": seed,
        "likelihood": likelihood or None,
        "quantize": quantize,
    }
    overrides = overrides or {}
    others = of_models | {**overrides} if protocol else of_files
    if unused := [name for name, value in others.items() if value is not None]:
        what = "a model is sampled" if protocol else "samples in files are measured, by --protocol"
        raise ConfigError(f"--{unused[0]}: it says how {what}; leave it out")
    if protocol is not None:
        _measure_files(
            Path(source),
            protocol,
            reference=reference,
            metrics=metrics,
            allow_jpeg=allow_jpeg,
            batch_size=50 if batch_size is None else batch_size,
            device=device,
            out=out,
        )
        return
    if Path(source).suffix.lower() in (".npz", ".tar"):
        raise ConfigError(f"--protocol: expected how the images in {source} are measured, found none; see --help")
    given = {"num": num, "features": features, "seed": seed, "batch_size": batch_size}
    _measure_model(
        source,
        {f"evaluation.{key}": value for key, value in given.items() if value is not None},
        overrides,
        {"steps": steps, "solver": solver, "guidance": guidance, "guidance_interval": guidance_interval},
        data=data,
        likelihood=likelihood,
        quantize=quantize,
        device=device,
        out=out,
    )


def _measure_model(
    source: str,
    evaluation: Mapping[str, Any],
    overrides: Mapping[str, Any],
    sampling: Mapping[str, Any],
    *,
    data: str | None,
    likelihood: bool,
    quantize: Literal["int8_weight", "int8"] | None,
    device: str | None,
    out: Path | None,
) -> None:
    """Measure the samples of a model by the recipe that lies beside it, with what was given in its place."""
    from dit.config import load_recipe
    from dit.errors import ConfigError
    from dit.files import check_writable
    from dit.plugins import made_with
    from dit.run_files import RECIPE_NAME
    from dit.verbs.sample import checked_settings, sampling_settings
    from dit.zoo.source import locate

    of_sampling = {key: value for key, value in overrides.items() if key.startswith("sampling.")}
    of_recipe = {key: value for key, value in overrides.items() if key not in of_sampling}
    settings = sampling_settings(of_sampling, **sampling)
    located = locate(source)
    folder, settings = located.folder, checked_settings(located.config.sampling, settings)
    if not (folder / RECIPE_NAME).is_file():
        raise ConfigError(f"{folder}: expected a {RECIPE_NAME}, which names the held-out images, found none")
    of_recipe |= evaluation
    recipe = load_recipe(folder / RECIPE_NAME, of_recipe | ({} if data is None else {"data.source": data}))
    if recipe.evaluation.features_for(recipe.data.source) is None and not likelihood:
        raise ConfigError(
            "--features: expected a feature extractor, for the recipe names none; see dit evaluate --help"
        )

    from dit.device import choose_device  # and torch with it

    check_writable(out or REPORT, "--out")
    out = out or (Path(f"eval.{quantize}.json") if quantize else _report_of(source, folder))
    with made_with(located.config.model_dump(), folder):  # the data or the features may be a plugin's
        evaluate_source(
            source, recipe, out=out, device=choose_device(device), likelihood=likelihood, quantize=quantize, **settings
        )


def _measure_files(
    source: Path,
    protocol: str,
    *,
    reference: Path | None,
    metrics: str | None,
    allow_jpeg: bool,
    batch_size: int,
    device: str | None,
    out: Path | None,
) -> None:
    """Measure images in files, write the report and a row of results.csv, and print the figures."""
    from dit.device import choose_device
    from dit.errors import ConfigError
    from dit.evaluation.image_files import open_image_files
    from dit.evaluation.measure import measure, print_measurement
    from dit.evaluation.protocols import PROTOCOLS
    from dit.evaluation.references.reference import open_reference
    from dit.evaluation.results_table import NAME, append_result
    from dit.files import check_writable, write_json
    from dit.run_files import is_run
    from dit.zoo.folder.config import is_exported

    if not source.exists() or is_exported(source) or is_run(source):
        found = "a model" if source.exists() else "none"
        raise ConfigError(
            f"{source}: expected an .npz, a folder or a tar of images, found {found}; make images of a model by dit "
            "sample MODEL --num 50000 --out FILE.npz"
        )
    if batch_size < 1:
        raise ConfigError(f"--batch_size: expected at least 1, found {batch_size}")
    wanted = PROTOCOLS[protocol].choose(metrics and [name.strip() for name in metrics.split(",")])
    out = out or source.with_name(f"{source.name}.{protocol}.json")
    check_writable(out, "--out")
    found = measure(
        open_image_files(source, allow_jpeg=allow_jpeg),
        None if reference is None else open_reference(reference),
        wanted,
        name=source.name,
        device=choose_device(device),
        batch_size=batch_size,
    )
    print_measurement(found)
    write_json(out, found.to_dict())
    append_result(out.parent / NAME, found)
    print(out)


def _report_of(source: str, folder: Path) -> Path:
    """Return where the report goes: beside a model of the user's, else here; a cache or this package is left alone."""
    given, found = Path(source).resolve(), folder.resolve()
    return folder / REPORT if found in (given, *given.parents) or given in found.parents else Path(REPORT)


def evaluate_source(
    source: str | Path,
    recipe: "Recipe",
    *,
    out: Path,
    device: "torch.device",
    likelihood: bool = False,
    quantize: Literal["int8_weight", "int8"] | None = None,
    **sampling: Any,
) -> None:
    """Draw samples from a source, measure them, write the report and print the figures.

    Args:
        source: where the model is loaded from.
        recipe: its sections `data` and `evaluation` say what is measured and against which images.
        out: report, in JSON; in an exported folder the card is rendered anew, and failures.png shows what went wrong.
        device: where to compute.
        likelihood: whether to compute the likelihood of held-out latents too; alone, without a feature extractor.
        quantize: what of the blocks is in 8 bits.
        sampling: fields of `SamplingConfig` that differ from the model's defaults.
    """
    from dit.display import say
    from dit.evaluation.failures import NAME as FAILURES_NAME
    from dit.evaluation.failures import Failures
    from dit.evaluation.result import FORMAT_VERSION
    from dit.evaluation.versions import package_versions
    from dit.files import write_json
    from dit.zoo.cards.card import CARD_NAME, write_card
    from dit.zoo.folder.config import is_exported
    from dit.zoo.pipeline import load_pipeline

    pipeline = load_pipeline(source, device=device, quantize=quantize)
    subject = {
        # A published report says nothing of the folders of the machine that it was made on.
        "source": Path(source).name if Path(source).exists() else str(source),
        "weights_sha256": pipeline.fingerprints(),
        "device": str(device),
        **({"precision": quantize} if quantize else {}),
    }
    report: dict[str, Any] = {"format_version": FORMAT_VERSION, "subject": subject, "versions": package_versions()}
    if recipe.evaluation.features_for(recipe.data.source) is not None:
        failures = Failures(pipeline.class_names)
        report = _measure_samples(pipeline, recipe, subject, sampling, failures)
        if is_exported(out.parent):
            failures.save(out.parent / FAILURES_NAME)
    if likelihood:
        report["likelihood"] = _measure_likelihood(pipeline, recipe)
    if out.is_file():
        say(f"replaced an earlier report in {out}")
    write_json(out, report)
    if is_exported(out.parent) and (out.parent / CARD_NAME).is_file():
        write_card(out.parent)
    print(out)


def _measure_samples(
    pipeline: "Pipeline",
    recipe: "Recipe",
    subject: Mapping[str, Any],
    sampling: Mapping[str, Any],
    callback: "Callable[[EvaluatedBatch], None]",
) -> dict[str, Any]:
    """Print how good samples are, and return the report; `callback` sees every batch."""
    from dit.data.images import open_images
    from dit.evaluation.evaluate import evaluate
    from dit.evaluation.features import load_features
    from dit.evaluation.result import print_evaluation

    channels = pipeline.codec.image_channels
    config = recipe.evaluation
    reference, training = (open_images(recipe.data, split, channels=channels) for split in ("val", "train"))
    names = _names_of(reference.class_names, tuple(pipeline.class_names), recipe.data.source)
    evaluation = evaluate(
        pipeline.sampler(seed=config.seed, **sampling),
        config,
        extractor=load_features(config.features_for(recipe.data.source), device=pipeline.device),
        class_names=pipeline.class_names,
        reference=replace(reference, class_names=names),
        training=replace(training, class_names=names),
        sampling=pipeline.settings(**sampling).model_dump(mode="json"),
        subject=subject,
        callback=callback,
    )
    print_evaluation(evaluation)
    return evaluation.to_dict()


def _names_of(found: tuple[str, ...], names: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the names of the images' classes, by those of the model where both are ImageNet's.

    Raises:
        ConfigError: no class of the images is one of the model's: it makes other things.
    """
    from dit.data.imagenet import is_imagenet
    from dit.display import warn
    from dit.errors import ConfigError

    if is_imagenet(found) and is_imagenet(names):
        return names
    others = [name for name in found if name not in names]
    if names and others and len(others) == len(found):
        raise ConfigError(
            f"--data {source}: expected images of the model's classes ({', '.join(names[:5])}, ...), found none of "
            f"them, but {', '.join(others[:5])}; its samples can't be measured against these"
        )
    if names and others:
        warn(f"{source}: {len(others)} of its {len(found)} classes are not the model's, such as {others[0]}")
    return found


def _measure_likelihood(pipeline: "Pipeline", recipe: "Recipe") -> dict[str, Any]:
    """Print how likely held-out latents are, and return the report."""
    from dit.evaluation.likelihood import evaluate_likelihood
    from dit.evaluation.likelihood_result import print_likelihood
    from dit.latents.encode import encode_dataset
    from dit.latents.stored import open_stored

    if (stored := open_stored(recipe.data, recipe.latents)) is None:
        held_out = encode_dataset(recipe.data, recipe.latents, pipeline.codec, "val")
    else:
        stored.check(recipe.data, pipeline.codec, is_measured=recipe.latents.normalise == "measured")
        held_out = stored.val
    names = _names_of(held_out.class_names, tuple(pipeline.class_names), recipe.data.source)
    held_out.class_names = names
    found = evaluate_likelihood(
        pipeline.model,
        pipeline.process,
        pipeline.codec,
        held_out,
        recipe.evaluation.likelihood,
        class_names=pipeline.class_names,
        seed=recipe.evaluation.seed,
        batch_size=recipe.evaluation.batch_size,
    )
    print_likelihood(found)
    return found.to_dict()
