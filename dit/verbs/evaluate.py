"""`dit evaluate`: the quality of samples, beside held-out images or as published figures are measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dit import launcher
from dit.making import making_of
from dit.measuring.beside_held_out import measure_beside_held_out
from dit.measuring.by_protocol import FileSamples, ModelSamples, is_images, measure_by_protocol
from dit.measuring.report import report_path

SECTIONS = ("sampling", "evaluation")
SHARED = (making_of,)


def run(
    source: str,
    /,
    num: int | None = None,
    features: str | None = None,
    data: str | None = None,
    balanced: bool = False,
    drawn: bool = False,
    seed: int | None = None,
    batch_size: int | None = None,
    likelihood: bool = False,
    protocol: Literal["adm", "edm2", "dgm-eval", "torch-fidelity", "clean", "cmmd"] | None = None,
    reference: Path | None = None,
    metrics: str | None = None,
    allow_jpeg: bool = False,
    processes: int = 1,
    device: str | None = None,
    out: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    **making_options: Any,
) -> None:
    """Measure a model's samples: class accuracy and Frechet distance, beside the distance that real images reach.

    What is left out comes from the recipe and the sampling defaults that the model was exported with; any other field
    can be set by --sampling.FIELD VALUE and --evaluation.FIELD VALUE.

    With --protocol, samples are measured as published figures are: those of a model, which are made meanwhile and not
    kept, or images in an .npz with arr_0, a folder or a tar of PNGs. The report holds all that decides the figures, and
    results.csv beside it gets a row. The same command goes on where it was stopped, and several processes, by
    torchrun or --processes, share the work: the samples are the same.

    Args:
        source: run folder, exported folder, .safetensors file of either, zoo name or Hub id; with --protocol also an
            .npz, a folder or a tar of images.
        num: number of samples; by default the protocol's, such as 50,000, or the recipe's.
        features: feature extractor: mnist, inception-v3-compat or timm/MODEL; with --protocol the classifier of one
            more figure, accuracy, of samples whose classes are known.
        data: source of the held-out images, where it is another one here than in the recipe.
        balanced: with --protocol, all classes in turn, as always without.
        drawn: with --protocol, classes drawn at random, as by default unless --published says otherwise.
        seed: seed of the samples.
        batch_size: samples at a time; it changes memory and speed, not the samples but for rounding.
        likelihood: also compute how likely held-out latents are, in nats and bits per dimension of the latent; where
            no feature extractor is known, only that. --evaluation.likelihood.num says of how many.
        protocol: how samples are measured: it fixes network, resizing, arithmetic and splits.
        reference: what they are measured against: an .npz of ADM's, JiT's or `dit reference`, or EDM2's .pkl.
        metrics: figures of the protocol to compute, such as fid,inception_score; all by default.
        allow_jpeg: take JPEGs too, whose losses change the figures.
        processes: number of processes on this machine, each on an accelerator of its own where there are several.
        device: such as cpu, cuda or cuda:1; the process's accelerator, else the CPU, by default.
        out: where the figures are written; eval.json in the model's folder, of a zoo name or Hub id here, with
            --quantize KIND eval.KIND.json here, of files SOURCE.PROTOCOL.json.
        overrides: `sampling.FIELD` or `evaluation.FIELD` -> value.
        making_options: see `dit.making.making_of`.
    """
    from dit.errors import ConfigError

    launcher.check_processes(processes)
    of_recipe = {key: value for key, value in (overrides or {}).items() if not key.startswith("sampling.")}
    of_sampling = {key: value for key, value in (overrides or {}).items() if key not in of_recipe}
    making = making_of(of_sampling, **making_options)
    order = {"balanced": balanced or None, "drawn": drawn or None}
    if likelihood and making.compiled == "graphs":
        raise ConfigError("--likelihood: expected --compiled off or blocks, for it needs gradients, found graphs")
    if protocol is None:
        _refuse({"reference": reference, "metrics": metrics, "allow_jpeg": allow_jpeg or None} | order, "by --protocol")
        if is_images(source):
            raise ConfigError(f"--protocol: expected how the images in {source} are measured, found none; see --help")
        given = {"num": num, "features": features, "seed": seed, "batch_size": batch_size}
        of_recipe |= {f"evaluation.{key}": value for key, value in given.items() if value is not None}
        of_recipe |= {} if data is None else {"data.source": data}
        measure_beside_held_out(
            source, of_recipe, making, likelihood=likelihood, processes=processes, device=device, out=out
        )
        return
    _refuse({"data": data, "likelihood": likelihood or None} | of_recipe, "without --protocol")
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    if is_images(source):
        given = {name: value for name, value in making_options.items() if value not in (None, False, "off")}
        _refuse({"num": num, "seed": seed} | given | of_sampling | order, "of a model")
        samples = FileSamples(Path(source), allow_jpeg, 50 if batch_size is None else batch_size)
        out = out or samples.path.with_name(f"{samples.path.name}.{protocol}.json")
    else:
        _refuse({"allow_jpeg": allow_jpeg or None}, "of images in files")
        size = 32 if batch_size is None else batch_size
        samples = ModelSamples(source, making, num, seed or 0, size, balanced=balanced, drawn=drawn)
        out = out or report_path(source, making)
    options: dict[str, Any] = {"processes": processes, "device": device, "out": out}
    measure_by_protocol(samples, protocol, reference, names, features=features, **options)


def _refuse(options: Mapping[str, Any], which: str) -> None:
    """Refuse options of other samples than these."""
    from dit.errors import ConfigError

    if given := [name for name, value in options.items() if value is not None]:
        raise ConfigError(f"--{given[0]}: it is for samples {which}; leave it out")
