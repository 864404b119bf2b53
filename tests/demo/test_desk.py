"""A visitor's job from the first look to the last one."""

import dataclasses

import pytest

from dit.demo.desk import Desk
from dit.demo.form import Form, Settings
from dit.demo.jobs import MAX_WAITING, Jobs
from dit.demo.pictures import Pictures
from tests.demo.conftest import MODEL


@pytest.fixture
def desk(models):
    return Desk(models, Jobs(), Pictures())


def settings_of(models, name, **changes):
    return dataclasses.replace(Settings.of(name, models.config(name), published=False), **changes)


def test_looks_and_then_pictures(desk, models):
    *looks, last = desk.watch("a", settings_of(models, MODEL, steps=30), Form(num=2))
    assert all(look.goes_on for look in looks)
    assert not last.goes_on
    assert last.page.count('href="/pictures/') == 3  # two, and both as one
    assert "dit sample dit_ti_2.mnist --num 2 --steps 30" in last.page


def test_a_wrong_field_is_a_message_and_no_job(desk, models):
    (only,) = desk.watch("a", settings_of(models, MODEL, steps=0), Form())
    assert "Steps: expected a whole number from 1 to 1000, found 0" in only.page


def test_a_model_that_fails_to_load_is_a_message_without_its_path(desk, models, broken):
    *_, last = desk.watch("a", settings_of(models, "broken_digits"), Form())
    assert "Loading broken_digits failed: broken_digits/model.safetensors: it is damaged" in last.page
    assert str(broken.parent) not in last.page
    *_, last = desk.watch("a", settings_of(models, MODEL, steps=1), Form(num=1))
    assert "Download all" in last.page


def test_a_stop_and_a_visitor_who_goes(desk, models, monkeypatch):
    long = settings_of(models, MODEL, steps=1000)
    looks = desk.watch("a", long, Form(num=1))
    assert next(looks).goes_on
    desk.jobs.stop("a")
    *_, last = looks
    assert last.was_stopped
    assert "Stopped." in last.page
    gone, submit, submitted = desk.watch("b", long, Form(num=1)), desk.jobs.submit, []
    monkeypatch.setattr(desk.jobs, "submit", lambda *given: submitted.append(submit(*given)) or submitted[-1])
    next(gone)
    gone.close()
    *_, last = desk.watch("c", settings_of(models, MODEL, steps=1), Form(num=1))
    assert "Download all" in last.page
    assert [job.state for job in submitted] == ["stopped", "done"]


def test_too_many_who_wait_get_a_message(desk, models):
    desk.jobs.submit("0", lambda job: job.changed.wait(30) or job.check())
    for i in range(1, MAX_WAITING + 1):
        desk.jobs.submit(str(i), lambda _: None)
    (only,) = desk.watch("late", settings_of(models, MODEL), Form())
    assert "others are waiting for this machine; try again in a minute" in only.page
    desk.jobs.stop("0")
