"""The page: fields at the left, pictures at the right, and a second tab that compares."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base

from dit.demo import html
from dit.demo.desk import Desk
from dit.demo.fields import (
    CLASS,
    CLASSES,
    Fields,
    class_choices,
    class_field,
    model_field,
    same_classes,
    settings_fields,
    settings_of,
)
from dit.demo.form import MAX_NUM, MAX_UPLOAD, Form, Kind

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "Cascadia Mono", "Menlo", "DejaVu Sans Mono", "monospace")
IMAGE_SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"]
KINDS: dict[str, Kind] = {
    "Samples": "samples",
    "Denoising": "denoising",
    "Between classes": "classes",
    "Between seeds": "seeds",
    "Invert a picture": "inversion",
}
ABOUT: dict[Kind, str] = {
    "samples": "Images of the classes in turn, each from its own noise.",
    "denoising": "How noise becomes an image: each state, and below it what the network takes the image to be.",
    "classes": "A row from each class to the next one, on one noise.",
    "seeds": "A row for each class, from the noise of this seed to that of the next.",
    "inversion": "A picture of yours, taken to the noise that makes it, and back again.",
}
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Update = Any
"""A component's new value or properties, as gradio takes them."""


def theme() -> Base:
    """Return colours and fonts, none of which comes from elsewhere."""
    return Base(primary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONO)


def build(desk: Desk) -> gr.Blocks:
    """Return the page."""
    with gr.Blocks(title="dit demo", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gr.HTML(html.head())
        with gr.Tab("Sample"):
            _sample_tab(desk)
        with gr.Tab("Compare"):
            _compare_tab(desk)

        @page.unload
        def leave(request: gr.Request) -> None:
            for tab in ("sample", "compare"):
                desk.jobs.stop(f"{request.session_hash}/{tab}")

    return page.queue(default_concurrency_limit=None, api_open=False)


def _sample_tab(desk: Desk) -> None:
    first = desk.models.names[0]
    with gr.Row(elem_classes="dit-desk"):
        with gr.Column(scale=2, min_width=320):
            model, defaults = model_field(desk.models, "sample", first)
            kind = gr.Radio(list(KINDS), value="Samples", label="What to make", info=ABOUT["samples"], elem_id="kind")
            limit = f"Picture, at most {MAX_UPLOAD // 10**6} MB"
            picture = gr.File(label=limit, file_types=IMAGE_SUFFIXES, visible=False, height=130, elem_id="picture")
            classes = class_field(desk.models, first, "sample")
            num, seed = _num_and_seed("sample")
            fields = settings_fields(desk.models, "sample", model, defaults)
            inversion = settings_fields(desk.models, "inversion", model, defaults, inverts=True)
            start, stop = _buttons("sample", "Make pictures")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(html.welcome(), elem_id="sample-shown")

    def make(
        request: gr.Request, kind: str, picture: str | None, classes: list, num: Any, seed: Any, *settings: Any
    ) -> Iterator[list[Update]]:
        form = Form(KINDS.get(kind, kind), classes or (), num, seed, _uploaded(picture))  # pyright: ignore[reportArgumentType]
        values = settings[len(fields.settings) :] if form.kind == "inversion" else settings[: len(fields.settings)]
        for seen in desk.watch(f"{request.session_hash}/sample", settings_of(values), form):
            yield [seen.page, *_while(seen.goes_on)]

    def choose(kind: str) -> list[Update]:
        chosen = KINDS[kind]
        inverts = chosen == "inversion"
        return [
            gr.update(info=ABOUT[chosen]),
            gr.update(visible=inverts),
            gr.update(visible=chosen in ("samples", "denoising")),
            gr.update(label=CLASS if inverts else CLASSES),
            gr.update(visible=not inverts),
            gr.update(visible=inverts),
        ]

    inputs = [kind, picture, classes, num, seed, *fields.settings, *inversion.settings]
    start.click(make, inputs, [shown, start, stop], **QUIET)
    _on_stop(desk, stop, "sample")
    _on_model(desk, fields, classes)
    kind.input(choose, kind, [kind, picture, num, classes, fields.group, inversion.group], **QUIET)


def _compare_tab(desk: Desk) -> None:
    names = desk.models.names
    both = names[0], names[1 % len(names)]
    with gr.Row(elem_classes="dit-desk"):
        with gr.Column(scale=2, min_width=320):
            classes = class_field(desk.models, both[0], "compare")
        with gr.Column(scale=2, min_width=320):
            num, seed = _num_and_seed("compare")
        with gr.Column(scale=1, min_width=200):
            start, stop = _buttons("compare", "Compare")
    sides: list[tuple[Fields, gr.HTML]] = []
    with gr.Row(elem_classes="dit-desk"):
        for name, model in zip(("left", "right"), both, strict=True):
            with gr.Column(min_width=320, elem_classes="dit-side"):
                chosen = model_field(desk.models, name, model)
                fields = settings_fields(desk.models, name, *chosen)
                sides.append((fields, gr.HTML(html.welcome("The same seeds, side by side."), elem_id=f"{name}-shown")))
    num_settings = len(sides[0][0].settings)

    def compare(request: gr.Request, classes: list, num: Any, seed: Any, *settings: Any) -> Iterator[list[Update]]:
        form = Form("samples", classes or (), num, seed)
        yield [html.note("Starting ..."), html.note("The other one comes first."), *_while(True)]
        for side, values in enumerate((settings[:num_settings], settings[num_settings:])):
            for seen in desk.watch(f"{request.session_hash}/compare", settings_of(values), form):
                pages = [seen.page, gr.skip()] if side == 0 else [gr.skip(), seen.page]
                yield [*pages, *_while(seen.goes_on or side == 0)]
                if seen.was_stopped and side == 0:
                    yield [gr.skip(), html.note("Stopped."), *_while(False)]
                    return

    inputs = [classes, num, seed, *sides[0][0].settings, *sides[1][0].settings]
    start.click(compare, inputs, [sides[0][1], sides[1][1], start, stop], **QUIET)
    _on_stop(desk, stop, "compare")
    _on_model(desk, sides[0][0], classes)


def _num_and_seed(name: str) -> tuple[gr.Slider, gr.Number]:
    with gr.Row():
        num = gr.Slider(1, MAX_NUM, value=10, step=1, label="Pictures", elem_id=f"{name}-num", min_width=210)
        seed = gr.Number(0, precision=0, label="Seed", elem_id=f"{name}-seed", min_width=90)
    return num, seed


def _buttons(name: str, words: str) -> tuple[gr.Button, gr.Button]:
    start = gr.Button(words, variant="primary", elem_id=f"{name}-start")
    return start, gr.Button("Stop", variant="stop", visible=False, elem_id=f"{name}-stop")


def _on_stop(desk: Desk, stop: gr.Button, tab: str) -> None:
    def end(request: gr.Request) -> None:
        desk.jobs.stop(f"{request.session_hash}/{tab}")

    stop.click(end, **QUIET)


def _on_model(desk: Desk, fields: Fields, classes: gr.Dropdown) -> None:
    before = gr.State(fields.model.value)

    def of_model(model: str, before: str, chosen: list) -> list[Update]:
        config = desk.models.config(model)
        choices, same = class_choices(config), same_classes(chosen or (), desk.models.config(before), config)
        return [gr.update(choices=choices, value=same, visible=bool(choices)), model]

    fields.model.input(of_model, [fields.model, before, classes], [classes, before], **QUIET)


def _while(is_running: bool) -> list[Update]:
    """Return the buttons: one to start, or one to stop."""
    return [gr.update(visible=not is_running), gr.update(visible=is_running)]


def _uploaded(path: str | None) -> tuple[str, bytes] | None:
    return None if path is None else (Path(path).name, Path(path).read_bytes())
