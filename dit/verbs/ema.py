"""`dit ema`: an average of another width, after the run."""

from pathlib import Path

LARGE_ERROR = 0.05


def run(run: Path, /, sigma_rel: float, out: Path, step: int | None = None) -> None:
    """Combine a run's snapshots into a weight average of any width, and export it.

    The run must have been trained with ema.sigma_rels, such as [0.05, 0.1].

    Args:
        run: run folder of `dit train`.
        sigma_rel: width of the average relative to the length of the run, such as 0.05.
        out: new or empty folder for the export.
        step: step at which the average ends, one of the snapshots'; the last by default.
    """
    import tempfile

    from safetensors.torch import save_file

    from dit.config import load_recipe
    from dit.display import warn
    from dit.run_files import RunFiles
    from dit.training.weights.posthoc import reconstruct
    from dit.zoo.export import export

    files = RunFiles(run)
    found = reconstruct(files.snapshots, sigma_rel, step=step)
    print(
        f"sigma_rel {sigma_rel} at step {found.step}, from {found.num_snapshots} averages; "
        f"its profile is met within {found.profile_error:.2%}"
    )
    if found.profile_error > LARGE_ERROR:
        warn("the snapshots do not reach this width well; choose one nearer to ema.sigma_rels")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        save_file(found.tensors, weights)
        provenance = {
            "ema": {"sigma_rel": sigma_rel, "profile_error": found.profile_error},
            "steps": found.step,
            "images_seen": found.step * load_recipe(files.recipe).train.batch_size,
        }
        print(export(run, out, weights=[weights], provenance=provenance))
