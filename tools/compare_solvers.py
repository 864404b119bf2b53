"""Compare solvers, step counts and forms of guidance on one model, as Markdown tables.

    python tools/compare_solvers.py runs/dit_ti_2_mnist/export --num 500
    python tools/compare_solvers.py EXPORT --guide runs/dit_ti_2_mnist/checkpoints/step-00000500/ema.safetensors

Every row draws the same seeds and labels and is measured against the held-out images of the model's recipe. An
evaluation is one solver call of the guided network; guided, it costs two network calls per image.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit.config import load_recipe
from dit.data.images import open_images
from dit.errors import ConfigError
from dit.evaluation.config import EvaluationConfig
from dit.evaluation.evaluate import evaluate
from dit.evaluation.features import load_features
from dit.evaluation.result import Evaluation
from dit.zoo.pipeline import Pipeline, load_pipeline
from dit.zoo.source import locate

EVALUATIONS = (5, 10, 20, 50)
MANY = 250
SOLVERS = {
    "ddpm": 1,
    "ddim": 1,
    "euler": 1,
    "heun": 2,
    "midpoint": 2,
    "dpmpp_2m": 1,
    "dpmpp_2m_sde": 1,
    "unipc": 1,
    "euler_maruyama": 1,
}
"""Solver -> network evaluations per step."""
MANY_STEP_SOLVERS = ("ddpm", "ddim", "euler")


@dataclass(frozen=True)
class Bench:
    """One model and what it is measured against."""

    pipeline: Pipeline
    source: str
    config: EvaluationConfig

    def measure(self, **sampling: Any) -> Evaluation:
        """Draw samples with these settings and measure them."""
        recipe = load_recipe(locate(self.source).folder / "recipe.yaml")
        channels = self.pipeline.codec.image_channels
        name = self.config.features_for(recipe.data.source)
        if name is None:
            raise ConfigError(f"{self.source}: expected a recipe whose evaluation names features, found none")
        return evaluate(
            self.pipeline.sampler(seed=self.config.seed, **sampling),
            self.config,
            extractor=load_features(name),
            class_names=self.pipeline.class_names,
            reference=open_images(recipe.data, "val", channels=channels),
            progress=False,
        )


def solver_rows(bench: Bench, guidance: float) -> Iterator[list[str]]:
    """Measure every solver at every number of evaluations that it can make."""
    for solver, per_step in SOLVERS.items():
        counts = (*EVALUATIONS, MANY) if solver in MANY_STEP_SOLVERS else EVALUATIONS
        for count in counts:
            steps = count // per_step
            if steps * per_step != count:
                continue
            yield _row([solver, str(count)], bench.measure(solver=solver, steps=steps, guidance=guidance))


def guidance_rows(bench: Bench, guidance: float, guide: Path | None, calls: int) -> Iterator[list[str]]:
    """Measure forms of guidance at the same number of network calls per image."""
    half = {"solver": "dpmpp_2m", "steps": calls // 2}
    yield _row(["off", ""], bench.measure(solver="dpmpp_2m", steps=calls, guidance=1.0))
    yield _row(["constant", f"w={guidance:g}"], bench.measure(**half, guidance=guidance))
    # Two thirds of the evaluations lie in the interval, so 3/5 of the calls buy as many steps.
    steps = calls * 3 // 5
    interval = [steps // 6, steps // 6 + steps * 2 // 3 - 1]
    label = f"w={guidance:g}, steps {interval[0]} to {interval[1]} of {steps}"
    yield _row(
        ["interval", label], bench.measure(solver="dpmpp_2m", steps=steps, guidance=guidance, guidance_steps=interval)
    )
    for schedule, power in (("linear", None), ("power_cosine", 2.0)):
        name = [schedule, f"1 to {2 * guidance:g}"]
        course = {"guidance_schedule": schedule, "guidance_power": power}
        yield _row(name, bench.measure(**half, guidance=2 * guidance, **course))
    if guide is not None:
        bench.pipeline.guide_by(load_pipeline(guide))
        yield _row(["autoguidance", f"w={guidance:g}, {guide.parent.name}"], bench.measure(**half, guidance=guidance))
        bench.pipeline.weaker = None


def _row(name: list[str], evaluation: Evaluation) -> list[str]:
    result = evaluation.to_dict()
    figures = [
        f"{result['num_calls']:g}",
        f"{100 * result['accuracy']:.1f}%",
        f"{result['frechet_distance']:.2f}",
        f"{1000 * result['seconds_per_image']:.1f}",
    ]
    print("| " + " | ".join([*name, *figures]) + " |", flush=True)
    return [*name, *figures]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="exported folder or run folder")
    parser.add_argument("--num", type=int, default=500, help="images per row")
    parser.add_argument("--guidance", type=float, default=2.0, help="guidance scale of the solver table")
    parser.add_argument("--guide", type=Path, help="a weaker model for autoguidance, such as an early checkpoint")
    parser.add_argument("--calls", type=int, default=20, help="network calls per image of the guidance table")
    arguments = parser.parse_args()
    config = EvaluationConfig(num=arguments.num, batch_size=250, seed=0)
    bench = Bench(load_pipeline(arguments.source), arguments.source, config)
    print("| solver | evaluations | network calls | accuracy | Frechet distance | ms per image |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    list(solver_rows(bench, arguments.guidance))
    print("\n| guidance | setting | network calls | accuracy | Frechet distance | ms per image |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    list(guidance_rows(bench, arguments.guidance, arguments.guide, arguments.calls))


if __name__ == "__main__":
    main()
