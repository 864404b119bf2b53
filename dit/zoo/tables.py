"""The zoo's weights and the architectures as tables: on a terminal, in the README and in `docs/zoo.md`."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from dit.figures import read_figures
from dit.files import ASSETS
from dit.markdown import Row, markdown_table
from dit.models.counts import count
from dit.models.families import arguments_of, list_models
from dit.zoo.entries import Entry, SourceEntry, entries, entry_counts

BEST_KNOWN = (
    "dit_xl_2.in256", "lightningdit_xl_1.in256_800ep", "jit_h_16.in256", "meanflow_b_4.in256", "imf_xl_2.in256",
    "mdtv2_xl_2.in256", "uvit_h_2.in256", "ddt_xl_2.in256", "ditdh_xl_1.in256", "maskdit_xl_2.in256",
)  # fmt: skip
"""The README's rows: the best weights of each kind of network that its authors published."""


def entry_rows(names: Iterable[str]) -> list[Row]:
    """Return a row for each name with weights: parameters, data, resolution, license, published FID."""
    return [
        {
            "name": name,
            "parameters": f"{entry_counts(name).parameters:,}",
            "data": entry.data,
            "resolution": str(entry.image_size),
            "license": entry.license,
            "FID as published": _fid(entry),
        }
        for name in names
        for entry in [entries()[name]]
    ]


def architecture_rows(names: Iterable[str]) -> list[Row]:
    """Return a row for each variant: parameters, cost of a call, and the shape of the network."""
    rows = []
    for name in names:
        arguments = arguments_of(name)
        parameters, macs = count(name, arguments)
        shape = {"width": "hidden_size", "depth": "depth", "heads": "num_heads", "patch": "patch_size"}
        rows.append(
            {"model": name, "parameters": f"{parameters:,}", "GMAC": f"{macs / 1e9:.2f}"}
            | {column: str(getattr(arguments, field, "-")) for column, field in shape.items()}
        )
    return rows


def zoo_table() -> str:
    """Return the table that the README holds between its markers."""
    return markdown_table(entry_rows(BEST_KNOWN), code=["name"])


def measured_table() -> str:
    """Return the table of what was measured of the weights that ship, which the README holds too."""
    embedded = (name for name, entry in entries().items() if entry.sources[0].embedded)
    found = ((name, read_figures(ASSETS / name)) for name in embedded)
    rows = [{"name": name} | figure.cells for name, figures in found if figures for figure in figures.measured]
    return markdown_table(rows, code=["name"])


def zoo_document() -> str:
    """Return `docs/zoo.md`: all weights with their published figures and places, and all architectures."""
    rows = [
        {
            **row,
            "FID as published": reported_figures(entries()[row["name"]]),
            "where": _link(entries()[row["name"]].sources[0]),
        }
        for row in entry_rows(entries())
    ]
    return _DOCUMENT.format(
        num=len(rows),
        entries=markdown_table(rows, code=["name"]),
        architectures=markdown_table(architecture_rows(list_models()), code=["model"]),
    )


def reported_figures(entry: Entry) -> str:
    """Return an entry's figures with their settings, a line each, for a cell of a table."""
    return "<br>".join(f"{report.value:g}: {report.setting}" for report in entry.reported) or "none"


_DOCUMENT = """# The zoo

Made by `tools/render_zoo.py` from `dit/zoo/entries.yaml` and the families' tables.

## Weights

`dit models --pretrained` lists these {num} names, `dit info NAME` says all that is known of one without a download,
`dit sample NAME --out grid.png` fetches, checks and converts it at first use. A file that only a person can fetch, such
as one on a shared drive (`by hand`), is given to `dit pull NAME --from FILE`. The autoencoders of LightningDiT and
DiT-DH are files of their own, which `dit convert` puts together with the weights once: the cards show how.

License: that of the weights, not of the code beside them. `unknown`: none was found, or what is said was not verified;
ask the authors before you use them. `nc` in a license: no commercial use.

Figures: FID of 50,000 samples as the authors report it, with their setting and without standard errors; nothing here
was measured by this project.
Scales count from 1 as no guidance; times from 0, data, to 1, noise. Where the authors say all of it, the setting of the
best figure is in the entry, and `dit sample NAME --published` uses it.

{entries}

## Architectures

What `dit.create_model(NAME)` builds, with the published numbers of classes and channels. One GMAC is a thousand million
multiply-accumulates of one forward pass of one image.

{architectures}
"""


def _fid(entry: Entry) -> str:
    found = [report for report in entry.reported if report.metric.startswith("FID")]
    return f"{found[0].value:g} ({found[0].setting.split(',')[0]})" if found else "none"


def _link(source: SourceEntry) -> str:
    if source.embedded:
        return "this package"
    place = source.address or source.page or f"https://huggingface.co/{source.repository}"
    notes = (["by hand"] if source.page else []) + ([source.dead] if source.dead else [])
    return f"[{source.repository or urlsplit(place).netloc}]({place})" + "".join(f", {note}" for note in notes)
