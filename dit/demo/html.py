"""The parts of the page that show work and pictures, as HTML; every text of a visitor is escaped."""

import re
from collections.abc import Sequence
from html import escape

from dit.demo.jobs import Job
from dit.demo.make import Made, Tile
from dit.display import time_left

MIN_ACROSS, FEW_ACROSS, MAX_ACROSS = 3, 5, 8
"""Images in a row of the page."""


def head() -> str:
    """Return the title."""
    return '<div class="dit-head"><h1>dit</h1><p>Diffusion transformers: sample them, and see what they do.</p></div>'


def welcome(text: str = "Pictures appear here while they are made.") -> str:
    """Return what stands where the pictures will be."""
    return f'<div class="dit-empty">{escape(text)}</div>'


def note(text: str) -> str:
    """Return a few words in place of pictures."""
    return f'<div class="dit-note" role="status">{escape(text)}</div>'


def message(text: str) -> str:
    """Return a message about what went wrong."""
    return f'<div class="dit-message" role="alert">{escape(text)}</div>'


def progress(job: Job, num_before: int) -> str:
    """Return how far a job is, and what there is of its pictures by now."""
    share, text = 0.0, f"{job.doing} ..." if job.doing else "Starting ..."
    if job.state == "waiting" and num_before:
        text = f"Waiting: {num_before} job{'s are' if num_before > 1 else ' is'} before this one."
    elif job.total:
        share, left = job.done / job.total, job.seconds_left
        text = f"Step {job.done} of {job.total}" + ("" if left is None else f", {time_left(left)} left")
    filled = f'<div class="dit-bar"><div style="width: {100 * share:.1f}%"></div></div>'
    bar = f'<div class="dit-progress" role="status">{filled}<span>{escape(text)}</span></div>'
    if job.preview is None:
        return bar
    tiles, columns = job.preview
    return bar + _tiles(tiles, columns, is_preview=True)


def made(result: Made) -> str:
    """Return the pictures, each with its name and its file, and the command that makes them again."""
    how = f'<p class="dit-how">{escape(result.words[0])} ({result.seconds:.1f} s)</p>'
    if result.tiles[0] is result.whole:
        shown, links = _picture(result.whole), _link(result.whole, "Download this picture")
    else:
        shown = _tiles(result.tiles, result.columns)
        links = f"{_link(result.whole, 'Download all as one picture')}, or click one: its file has its own command."
    words = "".join(f"<p>{line}</p>" for line in (*map(escape, result.words[1:]), links))
    return f'{how}{shown}<div class="dit-words">{words}</div>{_command(result.command)}'


def _command(command: str) -> str:
    """Return a command that breaks between its options, and a button that copies it."""
    head, *options = re.split(r" (?=--)", command)
    parts = " ".join(f"<span>{escape(part)}</span>" for part in (head, *options))
    copy = "navigator.clipboard.writeText(this.dataset.text); this.textContent = 'Copied'"
    button = f'<button type="button" data-text="{escape(command)}" onclick="{copy}">Copy</button>'
    return f'<div class="dit-command"><p>The same again, to the byte: {button}</p><code>{parts}</code></div>'


def _tiles(tiles: Sequence[Tile], columns: int, *, is_preview: bool = False) -> str:
    figures = "".join(_figure(tile, i) for i, tile in enumerate(tiles))
    kind = "dit-tiles dit-preview" if is_preview else "dit-tiles"
    return f'<div class="{kind}" style="--columns: {_across(len(tiles), columns)}">{figures}</div>'


def _across(num: int, columns: int) -> int:
    """Return how many images stand in a row of the page: as in the file where there are several rows, else a few."""
    if columns < num and columns <= MAX_ACROSS:
        return max(columns, MIN_ACROSS)
    return min(max(num, MIN_ACROSS), FEW_ACROSS) if num <= 2 * FEW_ACROSS else MAX_ACROSS


def _figure(tile: Tile, position: int) -> str:
    image = f'<img src="{escape(tile.address)}" alt="{escape(tile.words or "preview")}">'
    if tile.filename:
        title = f"Download picture {position}: {tile.words}"
        image = (
            f'<a href="{escape(tile.address)}" download="{escape(tile.filename)}" title="{escape(title)}">{image}</a>'
        )
    return f"<figure>{image}<figcaption>{escape(tile.words) or '&nbsp;'}</figcaption></figure>"


def _picture(tile: Tile) -> str:
    image = f'<img src="{escape(tile.address)}" alt="{escape(tile.words)}">'
    return f'<div class="dit-picture">{image}</div>'


def _link(tile: Tile, words: str) -> str:
    return f'<a class="dit-download" href="{escape(tile.address)}" download="{escape(tile.filename)}">{words}</a>'
