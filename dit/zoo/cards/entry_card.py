"""The cards of the zoo's entries: what was published elsewhere, described from `entries.yaml`.

Entries whose weights ship with the package have the card of their exported folder.
"""

from dit.files import ASSETS
from dit.zoo.cards.card import CARD_NAME
from dit.zoo.entries import Entry, architecture_of, entries, num_parameters

PROCESSES = {
    "gaussian": "Gaussian diffusion with learned variance: 1000 linear betas, the network predicts the noise",
    "flow": "flow matching on the straight path; the weights embed the raw time, run from noise to data, and predict "
    "data - noise, which loading accounts for",
}


def entry_card(name: str) -> str:
    """Return the card of a zoo name, in Markdown."""
    entry = entries()[name]
    if entry.sources[0].embedded:
        text = (ASSETS / name / CARD_NAME).read_text(encoding="utf-8")
        for picture in ("samples.png", "loss.png", "failures.png"):
            text = text.replace(f"({picture})", f"(../dit/assets/{name}/{picture})")
        return text
    return "\n\n".join([_metadata(entry), f"# {entry.title}", _facts(name, entry), _use(name), *_ends(entry)]) + "\n"


def _metadata(entry: Entry) -> str:
    lines = ["---", f"license: {entry.license}", "library_name: dit", "pipeline_tag: unconditional-image-generation"]
    lines += ["tags:", "- dit", "- diffusion-transformer", "- class-conditional", f"- {entry.process}"]
    return "\n".join([*lines, "datasets:", f"- {entry.data}", "---"])


def _facts(name: str, entry: Entry) -> str:
    sampling = entry.sampling
    channels = "all channels" if sampling.guidance_channels == "all" else f"the first {sampling.guidance_channels}"
    rows = [
        ("architecture", architecture_of(name)),
        ("parameters", f"{num_parameters(name):,}"),
        ("data", f"{entry.data} at {entry.image_size} pixels"),
        ("process", PROCESSES[entry.process]),
        ("autoencoder", entry.vae),
        (
            "sampling defaults",
            f"{sampling.solver.name}, {sampling.steps} steps, guidance {sampling.guidance:g} on {channels}",
        ),
        ("paper", entry.paper or "none"),
        ("licence of the weights", entry.license),
        *(("weights", f"{source.layout} layout, {source.describe()}") for source in entry.sources),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows)])


def _use(name: str) -> str:
    lines = ["## Use", "", "```python", "import dit", "", f'pipe = dit.load_pipeline("{name}")']
    return "\n".join([*lines, 'images = pipe(["golden retriever", "volcano"], seed=0)  # PIL images', "```"])


def _ends(entry: Entry) -> list[str]:
    rows = [f"| {report.metric} | {report.value:g} | {report.setting} |" for report in entry.reported]
    figures = "\n".join(["| measure | value | setting |", "| --- | --- | --- |", *rows])
    limits = (
        "The model knows the 1,000 classes of ImageNet at one resolution, with that data's biases; people and text "
        "come out badly. It is meant for research, not for images that are passed off as real."
    )
    return [
        "## Figures",
        "As the authors reported them; this project did not measure them.",
        figures,
        "## Intended use and limits",
        limits,
    ]
