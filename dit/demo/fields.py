"""The fields that say which model draws, and how; both tabs have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from dit.demo.form import Settings
from dit.demo.models import Models
from dit.sampling.solvers import SOLVERS

if TYPE_CHECKING:
    from dit.zoo.folder.config import FolderConfig

CLASSES, CLASS = "Classes (none: every class in turn)", "Class of the picture"
FAST, PUBLISHED = "Fast", "Published"


@dataclass(frozen=True)
class Fields:
    """The components, in the order of `Settings`."""

    model: gr.Dropdown
    """Which model."""
    defaults: gr.Radio
    """Whose settings the others begin with."""
    drawing: tuple[Any, ...]
    """Steps, solver, guidance, and the times between which it acts."""
    interval: gr.Accordion
    """Around the last two."""

    @property
    def settings(self) -> list[Any]:
        """All of them, as inputs."""
        return [self.model, self.defaults, *self.drawing]


def settings_of(values: Sequence[Any]) -> Settings:
    """Return the settings that the values of the fields say."""
    model, defaults, *drawing = values
    return Settings(str(model), defaults == PUBLISHED, *drawing)


def model_field(models: Models, name: str, model: str) -> tuple[gr.Dropdown, gr.Radio]:
    """Put the choice of a model on the page, and whose settings the other fields begin with."""
    chosen = gr.Dropdown(models.names, value=model, label="Model", elem_id=f"{name}-model")
    has_published = models.config(model).published is not None
    return chosen, gr.Radio([FAST, PUBLISHED], value=FAST, label="Settings to begin with", visible=has_published)


def settings_fields(models: Models, name: str, model: gr.Dropdown, defaults: gr.Radio) -> Fields:
    """Put the settings on the page, as the chosen model has them.

    Args:
        models: what can be chosen.
        name: prefix of their ids.
        model: the field of the model.
        defaults: the field of the settings to begin with.
    """
    chosen = str(model.value)
    own = Settings.of(chosen, models.config(chosen), published=False)
    with gr.Row(elem_classes="dit-row"):
        solver = gr.Dropdown(
            list(SOLVERS), value=own.solver, label="Solver", scale=2, min_width=180, elem_id=f"{name}-solver"
        )
        steps = gr.Number(own.steps, label="Steps", precision=0, min_width=90, elem_id=f"{name}-steps")
        guidance = gr.Number(own.guidance, label="Guidance", step=0.25, min_width=90, elem_id=f"{name}-guidance")
    with gr.Accordion("Guidance at some times only", open=False, elem_classes="dit-more") as interval, gr.Row():
        low = gr.Number(own.low, label="From t (0 is data)", step=0.05, min_width=90, elem_id=f"{name}-low")
        high = gr.Number(own.high, label="To t (1 is noise)", step=0.05, min_width=90, elem_id=f"{name}-high")
    fields = Fields(model, defaults, (steps, solver, guidance, low, high), interval)

    def of_model(model: str) -> list[Any]:
        config = models.config(model)
        offers = gr.update(visible=config.published is not None, value=FAST)
        return [offers, *_values(Settings.of(model, config, published=False))]

    def of_defaults(model: str, defaults: str) -> list[Any]:
        return _values(Settings.of(model, models.config(model), published=defaults == PUBLISHED))

    quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
    model.input(of_model, model, [defaults, *fields.drawing], **quiet)
    defaults.input(of_defaults, [model, defaults], list(fields.drawing), **quiet)
    return fields


def class_field(models: Models, model: str, name: str) -> gr.Dropdown:
    """Put the classes of a model on the page: chosen by name, completed while one types."""
    choices = class_choices(models.config(model))
    return gr.Dropdown(
        choices,
        visible=bool(choices),
        multiselect=True,
        allow_custom_value=True,
        label=CLASSES,
        elem_id=f"{name}-classes",
    )


def class_choices(config: "FolderConfig") -> list[tuple[str, str]]:
    """Return name and id of every class; a name that several have is followed by its id."""
    names = config.class_names
    shared = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return [(f"{name} ({i})" if name in shared else name, str(i)) for i, name in enumerate(names)]


def _values(settings: Settings) -> list[Any]:
    return [settings.steps, settings.solver, settings.guidance, settings.low, settings.high]
