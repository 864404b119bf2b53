"""The page in a real Chromium, as a visitor sees it. Skipped where Chromium, playwright or gradio is absent."""

import shlex
import shutil
from io import BytesIO

import pytest
from PIL import Image

from dit.cli import main
from dit.data.mnist import mnist_images
from dit.png_info import png_texts

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install '.[test]'")
LONG = 20_000  # milliseconds that a loaded machine may take for what takes one second
WIDE, NARROW = (1280, 900), (390, 844)
MODEL = "dit_ti_2.mnist"


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """Somebody in front of the page in a browser of their own, and all that the browser complains about."""

    def __init__(self, browser, server, size=WIDE):
        self.complaints, self.foreign = [], []
        width, height = size
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.set_default_timeout(LONG)
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._note)
        self.home = server.address
        self.page.goto(server.address)
        self.page.wait_for_selector("#sample-start")

    def _note(self, request):
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.foreign.append(request.url)

    def choose_model(self, name, tab="sample"):
        box = self.page.locator(f"#{tab}-model input")
        box.click()
        box.fill(name)
        self.page.get_by_role("option", name=name, exact=True).click()

    def choose_class(self, word, tab="sample"):
        box = self.page.locator(f"#{tab}-classes input")
        box.click()
        box.type(word)
        box.press("Enter")
        box.press("Tab")

    def clear_classes(self):
        self.page.click("#sample-classes .remove-all")

    def choose_kind(self, name):
        self.page.locator("#kind").get_by_text(name, exact=True).click()

    def fill(self, field, value, tab="sample"):
        box = self.page.locator(f"#{tab}-{field} input[type=number]")
        box.fill(str(value))
        box.press("Tab")

    def sees_value(self, field, value, tab="sample"):
        playwright.expect(self.page.locator(f"#{tab}-{field} input[type=number]")).to_have_value(value)

    def press(self, name):
        self.page.click(f"#{name}")

    def sees(self, selector, tab="sample"):
        self.page.wait_for_selector(f"#{tab}-shown {selector}")
        return self.page.locator(f"#{tab}-shown {selector}")

    def message(self):
        return self.sees(".dit-message").inner_text()

    def command(self, tab="sample"):
        """What the button copies; the same is shown."""
        copied = self.sees(".dit-command button", tab).get_attribute("data-text")
        assert self.sees(".dit-command code", tab).inner_text().split() == copied.split()
        return copied

    def download(self, selector, tab="sample"):
        with self.page.expect_download() as started:
            self.page.click(f"#{tab}-shown {selector}")
        return started.value.path().read_bytes(), started.value.suggested_filename

    def upload(self, name, content):
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.set_input_files("#picture input[type=file]", [file])
        self.page.wait_for_selector(f"#picture >> text={name.partition('.')[0]}")


@pytest.fixture
def visitor(browser, server):
    """One visitor, whose browser has nothing to complain about at the end."""
    visitor = Visitor(browser, server)
    yield visitor
    visitor.context.close()
    assert (visitor.complaints, visitor.foreign) == ([], [])


def digit():
    buffer = BytesIO()
    Image.fromarray(mnist_images("test")[0][0].squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()


def test_ten_digits_are_seen(visitor):
    visitor.press("sample-start")
    visitor.sees(".dit-download")
    assert visitor.page.locator("#sample-shown figcaption").all_inner_texts() == list("0123456789")
    images = visitor.page.evaluate(
        """() => [...document.querySelectorAll('#sample-shown figure img')].map(image => {
            const canvas = document.createElement('canvas'); canvas.width = canvas.height = 64;
            const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
            const shown = [...context.getImageData(0, 0, 64, 64).data].filter((_, i) => i % 4 == 0);
            return [image.naturalWidth, Math.max(...shown), shown.join(), getComputedStyle(image).imageRendering]; })"""
    )
    assert [width for width, *_ in images] == [64] * 10
    assert min(brightest for _, brightest, *_ in images) > 200  # strokes, not black squares
    assert len({pixels for *_, pixels, _ in images}) == 10
    assert {rendering for *_, rendering in images} == {"pixelated"}


def test_what_is_downloaded_is_made_again_by_the_printed_command(visitor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("7", "3"):
        visitor.choose_class(word)
    visitor.fill("steps", 5)
    visitor.fill("seed", 12)
    visitor.press("sample-start")
    whole, name = visitor.download(".dit-download")
    command = visitor.command()
    assert command.startswith(f"dit sample {MODEL} --classes 7,3 --num 10 --steps 5 --solver dpmpp_2m --guidance 2")
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / name).read_bytes() == whole
    one, name = visitor.download("figure:nth-child(3) a")
    command = png_texts(one)["Command"]
    assert main([*shlex.split(command)[1:], "--out", name]) == 0
    assert (tmp_path / name).read_bytes() == one


def test_a_stop_stops(visitor):
    visitor.fill("steps", 1000)
    visitor.press("sample-start")
    visitor.sees(".dit-preview img")
    assert "Step " in visitor.sees(".dit-progress").inner_text()
    assert " left" in visitor.sees(".dit-progress:has-text('left')").inner_text()
    visitor.press("sample-stop")
    assert visitor.sees(".dit-note").inner_text() == "Stopped."
    visitor.fill("steps", 2)
    visitor.press("sample-start")
    assert visitor.sees(".dit-tiles figure a").count() == 10


def test_wrong_input_is_told(visitor):
    visitor.choose_class("${1+1}<i>{{x}}")
    visitor.press("sample-start")
    assert visitor.message().startswith("Classes: no class is named '${1+1}<i>{{x}}'; expected a name")
    visitor.clear_classes()
    visitor.choose_class("eleven")
    visitor.press("sample-start")
    visitor.sees(".dit-message:has-text('eleven')")
    assert visitor.message() == "Classes: no class is named 'eleven'; expected a name or an id from 0 to 9."
    visitor.choose_kind("Invert a picture")
    visitor.clear_classes()
    visitor.choose_class("7")
    visitor.upload("broken.png", digit()[:150])
    visitor.press("sample-start")
    assert "broken.png: expected a whole image, found a broken one" in visitor.sees(":text('broken.png')").inner_text()


def test_a_huge_upload_is_told(visitor):
    visitor.choose_kind("Invert a picture")
    file = {"name": "huge.png", "mimeType": "image/png", "buffer": bytes(11 * 10**6)}
    visitor.page.set_input_files("#picture input[type=file]", [file])
    visitor.page.wait_for_selector("text=/exceed|too large|maximum/i")
    visitor.page.wait_for_selector("#sample-start")


def test_a_picture_is_inverted(visitor):
    visitor.choose_kind("Invert a picture")
    visitor.upload("seven.png", digit())
    visitor.choose_class("0")
    visitor.press("sample-start")
    visitor.sees(".dit-picture img")
    assert "Reconstruction error: 0.0" in visitor.sees(".dit-words").inner_text()
    own = f"dit sample {MODEL} --classes 0 --steps 12 --solver heun --guidance 1"
    assert visitor.command() == f"{own} --inversion seven.png --out {MODEL}_inversion_seed0.png"
    visitor.fill("steps", 5, tab="inversion")
    visitor.press("sample-start")
    visitor.sees(".dit-how:has-text('heun, 5 steps')")
    visitor.choose_kind("Samples")
    visitor.sees_value("steps", "12")


def test_classes_stay_chosen_where_another_model_has_them(visitor):
    visitor.choose_class("7")
    visitor.choose_class("3")
    visitor.choose_model(f"{MODEL}_gaussian")
    visitor.sees_value("steps", "15")
    visitor.fill("num", 2)
    visitor.press("sample-start")
    visitor.sees(".dit-download")
    assert visitor.page.locator("#sample-shown figcaption").all_inner_texts() == ["7", "3"]


def test_a_model_that_fails_to_load_is_told_and_others_go_on(visitor):
    visitor.choose_model("broken_digits")
    visitor.press("sample-start")
    assert visitor.message().startswith("Loading broken_digits failed: broken_digits/model.safetensors: it is")
    assert visitor.message().endswith("The other models can still be chosen.")
    visitor.choose_model(MODEL)
    visitor.press("sample-start")
    assert visitor.sees(".dit-tiles figure a").count() == 10


def test_two_models_side_by_side(visitor):
    visitor.page.get_by_role("tab", name="Compare").click()
    visitor.choose_model(f"{MODEL}_gaussian", tab="right")
    visitor.sees_value("steps", "15", tab="right")
    visitor.fill("steps", 4, tab="left")
    visitor.choose_class("5", tab="compare")
    visitor.press("compare-start")
    visitor.sees(".dit-download", tab="right")
    for side in ("left", "right"):
        assert visitor.page.locator(f"#{side}-shown figcaption").all_inner_texts() == ["5"] * 10
    assert visitor.command("left").startswith(f"dit sample {MODEL} --classes 5 --num 10 --steps 4")
    assert visitor.command("right").startswith(f"dit sample {MODEL}_gaussian --classes 5 --num 10 --steps 15")


def test_two_browsers_at_once(browser, server):
    both = [Visitor(browser, server) for _ in range(2)]
    for visitor in both:
        visitor.fill("steps", 1000)
        visitor.press("sample-start")
    both[0].sees(".dit-preview img")
    assert both[1].sees(".dit-progress:has-text('Waiting')").inner_text() == "Waiting: 1 job is before this one."
    for visitor in reversed(both):  # who waits is not kept waiting
        visitor.press("sample-stop")
        assert visitor.sees(".dit-note").inner_text() == "Stopped."
        visitor.fill("steps", 3)
    for visitor in both:
        visitor.press("sample-start")
    for visitor in both:
        assert visitor.sees(".dit-tiles figure a").count() == 10
        assert visitor.complaints == []
        visitor.context.close()


def test_a_visitor_who_leaves_stops_the_network(browser, server):
    first, second = (Visitor(browser, server) for _ in range(2))
    first.fill("steps", 1000)
    first.press("sample-start")
    first.sees(".dit-preview img")
    first.context.close()
    second.fill("steps", 2)
    second.press("sample-start")
    assert second.sees(".dit-tiles figure a").count() == 10
    second.context.close()


def test_a_narrow_screen(browser, server):
    visitor = Visitor(browser, server, NARROW)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == NARROW[0]
    visitor.press("sample-start")
    visitor.sees(".dit-download")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == NARROW[0]
    tile = visitor.page.locator("#sample-shown figure").first.bounding_box()
    assert tile is not None
    assert tile["width"] >= 80
    assert visitor.complaints == []
    visitor.context.close()
