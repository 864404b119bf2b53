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
    group: gr.Column
    """Around `drawing`."""

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


def settings_fields(
    models: Models, name: str, model: gr.Dropdown, defaults: gr.Radio, *, inverts: bool = False
) -> Fields:
    """Put the settings on the page, as the chosen model has them.

    Args:
        models: what can be chosen.
        name: prefix of their ids.
        model: the field of the model.
        defaults: the field of the settings to begin with.
        inverts: whether they are those of an inversion, which are hidden until it is chosen.
    """

    def begin(model: str, defaults: str = FAST) -> list[Any]:
        own = Settings.of(model, models.config(model), published=defaults == PUBLISHED, inverts=inverts)
        return [own.steps, own.solver, own.guidance, own.low, own.high]

    def of_model(model: str) -> list[Any]:
        offers = gr.update(visible=models.config(model).published is not None, value=FAST)
        return [offers, *begin(model)]

    own_steps, own_solver, own_guidance, own_low, own_high = begin(str(model.value))
    with gr.Column(visible=not inverts) as group:
        with gr.Row(elem_classes="dit-row"):
            solver = gr.Dropdown(
                list(SOLVERS), value=own_solver, label="Solver", scale=2, min_width=180, elem_id=f"{name}-solver"
            )
            steps = gr.Number(own_steps, label="Steps", precision=0, min_width=90, elem_id=f"{name}-steps")
            guidance = gr.Number(own_guidance, label="Guidance", step=0.25, min_width=90, elem_id=f"{name}-guidance")
        with gr.Accordion("Guidance at some times only", open=False, elem_classes="dit-more"), gr.Row():
            low = gr.Number(own_low, label="From t (0 is data)", step=0.05, min_width=90, elem_id=f"{name}-low")
            high = gr.Number(own_high, label="To t (1 is noise)", step=0.05, min_width=90, elem_id=f"{name}-high")
    fields = Fields(model, defaults, (steps, solver, guidance, low, high), group)

    quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
    model.input(of_model, model, [defaults, *fields.drawing], **quiet)
    defaults.input(begin, [model, defaults], list(fields.drawing), **quiet)
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


def same_classes(chosen: Sequence[Any], old: "FolderConfig", new: "FolderConfig") -> list[str]:
    """Return the ids that chosen classes of one model have in another; those that it does not have are left out."""
    names = {i: name for name, i in class_choices(old)}
    ids = dict(class_choices(new))
    return [ids[names[i]] for i in chosen if names.get(i) in ids]
