"""What the handlers of the page share, and how one of them watches a job for a visitor."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dit.demo import html
from dit.demo.form import Form, Settings, request_of
from dit.demo.jobs import Job, Jobs
from dit.demo.make import Made, make
from dit.demo.messages import message_of
from dit.demo.models import Models
from dit.demo.pictures import Pictures
from dit.drawing import Request
from dit.errors import DitError

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Shown:
    """What a visitor sees at a moment."""

    page: str
    """HTML."""
    goes_on: bool = False
    """Whether there is more to come."""
    was_stopped: bool = False
    """Whether the visitor stopped it."""


@dataclass(frozen=True)
class Desk:
    """The models, the line of jobs, and the pictures."""

    models: Models
    jobs: Jobs
    pictures: Pictures

    def watch(self, owner: str, settings: Settings, form: Form) -> Iterator[Shown]:
        """Do what a visitor asks for, and yield what is seen meanwhile; whatever goes wrong is a message."""
        try:
            request = request_of(self.models, settings, form)
            job = self.jobs.submit(owner, self._work(settings.model, request, form))
        except DitError as error:
            yield Shown(html.message(message_of(error)))
            return
        try:
            while not job.is_over:
                yield Shown(html.progress(job, self.jobs.num_before(job)), goes_on=True)
                job.changed.wait(POLL_SECONDS)
                job.changed.clear()
        finally:  # the visitor may have gone
            self.jobs.leave(job)
        yield self._end(job, settings.model)

    def _work(self, model: str, request: Request, form: Form) -> functools.partial[Made]:
        image = None if form.picture is None else form.picture[1]
        return functools.partial(
            make, models=self.models, model=model, request=request, pictures=self.pictures, image=image
        )

    def _end(self, job: Job, model: str) -> Shown:
        if job.state == "stopped":
            return Shown(html.note("Stopped."), was_stopped=True)
        if isinstance(job.result, Made):
            return Shown(html.made(job.result))
        assert job.error is not None
        source = self.models.source(model)
        text = message_of(job.error, (source, str(Path(source).resolve())))
        if job.doing.startswith("Loading"):
            text = f"{job.doing} failed: {text}. The other models can still be chosen."
        return Shown(html.message(text))
