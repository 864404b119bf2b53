"""A model's samples measured beside held-out images, by the recipe that it was trained by."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit import launcher
from dit.making import Making
from dit.measuring.processes import in_processes, parts_of
from dit.measuring.report import report_path, write_report

if TYPE_CHECKING:
    import torch

    from dit.config import Recipe
    from dit.evaluation.evaluate import Evaluated
    from dit.evaluation.result import Evaluation
    from dit.zoo.pipeline import Pipeline


def measure_beside_held_out(
    source: str,
    of_recipe: Mapping[str, Any],
    making: Making,
    *,
    likelihood: bool = False,
    processes: int = 1,
    device: str | None = None,
    out: Path | None = None,
) -> "Evaluation | None":
    """Measure the samples of a model by the recipe that lies beside it, with what was given in its place.

    Args:
        source: the model.
        of_recipe: dotted field of the recipe -> value.
        making: how samples are made.
        likelihood: as in `evaluate_source`.
        processes: number of processes on this machine.
        device: where to compute.
        out: the report.

    Returns:
        The figures; None in a launcher's processes but the first, and where there is the likelihood alone.
    """
    from dit.config import load_recipe
    from dit.errors import ConfigError
    from dit.files import check_writable
    from dit.plugins import made_with
    from dit.run_files import RECIPE_NAME

    located = making.locate(source)
    folder = located.folder
    if not (folder / RECIPE_NAME).is_file():
        raise ConfigError(
            f"{folder}: expected a {RECIPE_NAME}, which names the held-out images, found none; --protocol and "
            "--reference measure without"
        )
    recipe = load_recipe(folder / RECIPE_NAME, of_recipe)
    if recipe.evaluation.features_for(recipe.data.source) is None and not likelihood:
        raise ConfigError(
            "--features: expected a feature extractor, for the recipe names none; see dit evaluate --help"
        )
    report = out or report_path(source, making)
    check_writable(report, "--out")
    found: list[Evaluation] = []

    def work(share: launcher.Share, finishes: bool) -> None:
        from dit.device import choose_device

        with made_with(located.config.model_dump(), folder):  # the data or the features may be a plugin's
            pipeline = making.load(source, choose_device(device))
            subject = Subject(pipeline, recipe, source, making, report)
            if not finishes:
                subject.draw_share(share)
            elif evaluation := evaluate_subject(subject, likelihood=likelihood, share=share):
                found.append(evaluation)

    in_processes(processes, report, work)
    return found[0] if found else None


@dataclass(frozen=True)
class Subject:
    """A model to be measured beside held-out images."""

    pipeline: "Pipeline"
    """The model."""
    recipe: "Recipe"
    """Its sections `data` and `evaluation` say what is measured and against which images."""
    source: str | Path
    """Where the model was loaded from."""
    making: Making
    """How samples are made."""
    out: Path
    """Report, in JSON."""

    @property
    def facts(self) -> dict[str, Any]:
        """What identifies it."""
        return {
            # A published report says nothing of the folders of the machine that it was made on.
            "source": Path(self.source).name if Path(self.source).exists() else str(self.source),
            "weights_sha256": self.pipeline.fingerprints(),
            "device": str(self.pipeline.device),
            "precision": self.pipeline.precision,
            "rounding": self.pipeline.codec.rounding,
            "compiled": self.pipeline.compilation,
            "decoder_tile": self.pipeline.codec.tile,
        }

    def draw_share(self, share: launcher.Share) -> None:
        """Draw and describe this process's share of the samples."""
        from dit.evaluation.evaluate import draw_share

        if self.recipe.evaluation.features_for(self.recipe.data.source) is not None:
            draw_share(self.evaluated(), parts_of(self.out), share)

    def evaluated(self) -> "Evaluated":
        """Return samples, extractor, and images beside them."""
        from dit.data.images import open_images
        from dit.evaluation.evaluate import Evaluated
        from dit.evaluation.features import load_features

        pipeline, recipe, config = self.pipeline, self.recipe, self.recipe.evaluation
        channels = pipeline.codec.image_channels
        reference, training = (open_images(recipe.data, split, channels=channels) for split in ("val", "train"))
        names = names_of(reference.class_names, tuple(pipeline.class_names), recipe.data.source)
        return Evaluated(
            pipeline.sampler(seed=config.seed, **self.making.settings),
            config,
            load_features(config.features_for(recipe.data.source), device=pipeline.device),
            pipeline.class_names,
            replace(reference, class_names=names),
            replace(training, class_names=names),
            sampling=pipeline.settings(**self.making.settings).model_dump(mode="json"),
            subject=self.facts,
        )


def evaluate_source(source: str | Path, recipe: "Recipe", *, out: Path, device: "torch.device") -> None:
    """Draw samples from a source in this process, measure them, write the report and print the figures."""
    making = Making()
    evaluate_subject(Subject(making.load(source, device), recipe, source, making, out))
    shutil.rmtree(parts_of(out), ignore_errors=True)


def evaluate_subject(
    subject: Subject, *, likelihood: bool = False, share: launcher.Share = launcher.ALONE
) -> "Evaluation | None":
    """Measure samples once all processes have drawn their share, write the report and print the figures.

    In an exported folder the card is rendered anew, and failures.png shows what went wrong.

    Args:
        subject: what is measured.
        likelihood: whether to compute the likelihood of held-out latents too; alone, without a feature extractor.
        share: which of how many processes this is.
    """
    from dit.evaluation.evaluate import evaluate
    from dit.evaluation.failures import NAME as FAILURES_NAME
    from dit.evaluation.failures import Failures
    from dit.evaluation.result import FORMAT_VERSION, print_evaluation
    from dit.evaluation.versions import package_versions
    from dit.zoo.folder.config import is_exported

    pipeline, recipe, out = subject.pipeline, subject.recipe, subject.out
    report: dict[str, Any] = {
        "format_version": FORMAT_VERSION, "subject": subject.facts, "versions": package_versions()
    }  # fmt: skip
    evaluation = None
    if recipe.evaluation.features_for(recipe.data.source) is not None:
        failures = Failures(pipeline.class_names) if is_exported(out.parent) else None
        evaluation = evaluate(subject.evaluated(), parts_of(out), failures=failures, share=share)
        print_evaluation(evaluation)
        report = evaluation.to_dict()
        if failures is not None:
            failures.save(out.parent / FAILURES_NAME)
    if likelihood:
        report["likelihood"] = _measure_likelihood(pipeline, recipe)
    write_report(out, report)
    return evaluation


def names_of(found: tuple[str, ...], names: tuple[str, ...], source: str) -> tuple[str, ...]:
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

    pipeline.bring("codec")
    if (stored := open_stored(recipe.data, recipe.latents)) is None:
        held_out = encode_dataset(recipe.data, recipe.latents, pipeline.codec, "val")
    else:
        stored.check(recipe.data, pipeline.codec, is_measured=recipe.latents.normalise == "measured")
        held_out = stored.val
    names = names_of(held_out.class_names, tuple(pipeline.class_names), recipe.data.source)
    held_out.class_names = names
    pipeline.bring("network")
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
