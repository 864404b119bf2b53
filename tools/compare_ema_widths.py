"""The quality of a run's weight averages over their widths, as a table and a chart.

    dit train configs/dit_ti_2_mnist.yaml --output RUN --ema.sigma_rels "[0.05, 0.1]" --ema.snapshot_every 60
    python tools/compare_ema_widths.py RUN --out widths.svg

Each width is reconstructed from the run's snapshots, sampled and measured as the run's recipe evaluates; the weights
themselves stand at width 0. With --steps the averages that end earlier are compared too; of those steps the run must
have kept checkpoints.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dit import checkpoint
from dit.charts import COLOURS, Line, line_chart
from dit.config import load_recipe
from dit.data.images import open_images
from dit.evaluation.evaluate import evaluate
from dit.evaluation.features import load_features
from dit.files import write_text
from dit.training.weights.posthoc import reconstruct
from dit.zoo.pipeline import Pipeline, load_pipeline

WIDTHS = "0.02,0.03,0.04,0.05,0.07,0.1,0.14,0.2,0.25"
STYLE = (
    "<style>svg{background:#fff} text{font:11px sans-serif;fill:#374151} .grid{stroke:#e5e7eb} "
    ".axis{stroke:#6b7280;fill:none}</style>"
)


@dataclass(frozen=True)
class Quality:
    """The figures of one average."""

    step: int
    """Step at which the average ends."""
    sigma_rel: float
    """Relative width; 0: the weights themselves."""
    frechet_distance: float
    """Distance to the held-out images."""
    accuracy: float
    """Share of samples that are classified as asked."""


def main() -> None:
    """Measure every width, print the table and write the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder with snapshots")
    parser.add_argument("--widths", default=WIDTHS, help="relative widths, separated by commas")
    parser.add_argument("--steps", help="steps at which the averages end, separated by commas; the last by default")
    parser.add_argument("--num", type=int, default=1000, help="samples of each")
    parser.add_argument("--out", type=Path, default=Path("ema_widths.svg"), help="chart, as SVG")
    options = parser.parse_args()
    pipeline = load_pipeline(options.run)
    saved = {found.step: found for found in checkpoint.load_all(options.run / "checkpoints")}
    steps = [int(step) for step in options.steps.split(",")] if options.steps else [max(saved)]
    if unknown := [step for step in steps if step not in saved]:
        parser.error(f"--steps: expected some of {', '.join(map(str, saved))}, found {unknown[0]}")
    qualities = []
    for step in steps:
        qualities.append(measure(options.run, pipeline, saved[step].tensors("model"), step, 0.0, options.num))
        for width in map(float, options.widths.split(",")):
            found = reconstruct(options.run / "snapshots", width, step=step)
            qualities.append(measure(options.run, pipeline, found.tensors, step, width, options.num))
    write_text(options.out, draw(qualities))
    print(options.out)


def measure(run: Path, pipeline: Pipeline, weights: dict[str, Tensor], step: int, width: float, num: int) -> Quality:
    """Put weights into the pipeline, measure its samples and print a row."""
    pipeline.model.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)
    recipe = load_recipe(run / "recipe.yaml", {"evaluation.num": num})
    config = recipe.evaluation
    with torch.no_grad():
        found = evaluate(
            pipeline.sampler(seed=config.seed),
            config,
            extractor=load_features(config.features_for(recipe.data.source)),
            class_names=pipeline.class_names,
            reference=open_images(recipe.data, "val", channels=pipeline.codec.image_channels),
        )
    quality = Quality(step, width, found.quality.frechet_distance, found.quality.accuracy or 0.0)
    print(
        f"step {step}  sigma_rel {width:.3f}  Frechet {quality.frechet_distance:8.2f}  accuracy {quality.accuracy:.1%}",
        flush=True,
    )
    return quality


def draw(qualities: list[Quality]) -> str:
    """Return the chart of the Frechet distance over the widths, one line per step."""
    lines = []
    for number, step in enumerate(dict.fromkeys(q.step for q in qualities)):
        points = [q for q in qualities if q.step == step]
        widths, distances = [q.sigma_rel for q in points], [q.frechet_distance for q in points]
        lines.append(Line(f"ends at step {step}", widths, distances, COLOURS[number % len(COLOURS)]))
    chart = line_chart(
        "Quality over the width of the weight average (0: the weights themselves)",
        lines,
        x_label="relative width sigma_rel (share of the run)",
        y_label="Frechet distance to held-out images",
        x_range=(0, 0),
    )
    return chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("</svg>", STYLE + "</svg>")


if __name__ == "__main__":
    sys.exit(main())
