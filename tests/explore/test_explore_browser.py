"""The page in a real browser: what is clicked, what is then drawn, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.analysis.attention import Layer
from tests.browsing import Page, chromium
from tests.exploring import FRAMES, looker, samples, serving
from tests.test_attention_command import maps_of, save_checkpoint
from tests.test_predictor import COLORS, NAMES, blocks
from tests.test_predictor import save_checkpoint as save_linear


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def driver(folder: Path) -> Iterator[Any]:
    with chromium(folder) as started:
        yield started


@pytest.fixture(scope="module")
def first(folder: Path) -> Path:
    return save_checkpoint(folder / "best.ckpt")


@pytest.fixture(scope="module")
def second(folder: Path) -> Path:
    """Of the same classes, with a linear decoder and other weights."""
    return save_linear(folder / "linear.ckpt")


@pytest.fixture(scope="module")
def other(folder: Path, second: Path) -> Path:
    """Of other classes."""
    content = torch.load(second, weights_only=True)
    content["segmenter"]["classes"] = [f"other {name}" for name in NAMES]
    torch.save(content, folder / "other.ckpt")
    return folder / "other.ckpt"


@pytest.fixture(scope="module")
def site(driver: Any, folder: Path, first: Path) -> Iterator[str]:
    with serving([looker(first)], samples(folder / "pictures")) as address:
        yield address


def segmented(path: Path, rgb: np.ndarray) -> np.ndarray:
    return Predictor(load_segmenter(path), device="cpu").segment(rgb)


def painted(labels: np.ndarray) -> np.ndarray:
    """(H, W, 4) of a canvas on which all classes are opaque."""
    return np.dstack([np.array(COLORS, np.uint8)[labels], np.full(labels.shape, 255, np.uint8)])


def alphas(values: np.ndarray) -> np.ndarray:
    """Opacity 0…255 of each patch: from the lowest value to the 99th percentile, the nearest value below it."""
    ordered = np.sort(values.ravel())
    low, high = ordered[0], ordered[round(0.99 * (ordered.size - 1))]
    steps = ((values - low) * 255 / (high - low)).clip(0, 255).round()
    return np.minimum(40 + 1.4 * steps, 255).astype(int)


def test_a_picture_is_shown_with_its_classes(driver: Any, site: str, first: Path) -> None:
    page = Page(driver, site)
    assert page.is_shown("#hint")
    page.choose("first.png")
    labels = segmented(first, blocks())
    assert np.array_equal(page.pixels("canvas.labels"), painted(labels))
    assert np.abs(page.pixels("canvas.picture")[..., :3].astype(int) - blocks()).mean() < 4  # JPEG
    present = np.unique(labels)
    rows = driver.find_elements("css selector", "#legends > div > .legend li")
    assert {row.find_element("css selector", ".name").text for row in rows} == {NAMES[k] for k in present}
    for k in present:
        share = f"{100 * (labels == k).mean():.1f} %"
        assert page.text(f"#legends li[data-class='{k}'] .share") == share
    assert page.text("#status").startswith("first.png, 70×45; segmented in ")
    assert (page.complaints(), page.hosts()) == ([], {"127.0.0.1"})


def test_each_class_has_an_opacity(driver: Any, site: str, first: Path) -> None:
    page = Page(driver, site)
    page.choose("second.png")
    labels = segmented(first, blocks(seed=1))
    k = int(np.bincount(labels.ravel()).argmax())
    page.slide(f"#legends li[data-class='{k}'] input", 0)
    shown = page.pixels("canvas.labels")
    assert (shown[labels == k] == 0).all()
    assert np.array_equal(shown[labels != k], painted(labels)[labels != k])
    page.slide(f"#legends li[data-class='{k}'] input", 40)
    assert (page.pixels("canvas.labels")[labels == k, 3] == 102).all()
    page.click("#nothing")
    assert not page.pixels("canvas.labels").any()
    page.click(f"#legends li[data-class='{k}'] .swatch")
    assert np.array_equal(page.pixels("canvas.labels")[..., 3] == 255, labels == k)
    page.click("#all")
    assert np.array_equal(page.pixels("canvas.labels"), painted(labels))
    page.slide("#overlay", 0)
    assert page.run("return getComputedStyle(document.querySelector('canvas.labels')).opacity") == "0"
    assert (page.complaints(), page.hosts()) == ([], {"127.0.0.1"})


def test_a_click_shows_attention_and_probabilities(driver: Any, site: str, first: Path, folder: Path) -> None:
    page = Page(driver, site)
    page.choose("first.png")
    assert not page.is_shown("canvas.attention")
    page.point("A", 36, 20)
    assert page.is_shown("canvas.attention")
    assert page.is_shown(".mark")
    model, photo = load_segmenter(first), folder / "pictures/first.png"

    def shows(layer: Layer, head: int | None) -> None:
        maps = maps_of(model, photo, layer, 2 * 9 + 4 + (layer[0] == "enc"))
        expected = alphas(maps.mean(0) if head is None else maps[head])
        assert np.abs(page.pixels("canvas.attention")[..., 3].astype(int) - expected).max() <= 2

    shows(("enc", 1), None)
    page.slide("#layer", 0)
    shows(("enc", 0), None)
    page.click("#heads [data-value='1']")
    shows(("enc", 0), 1)
    page.click("#parts [data-value='dec']")
    shows(("dec", 1), 1)
    x, y = map(int, page.text("#at").removeprefix("at ").split(", "))
    expected = Predictor(model, device="cpu").probabilities(blocks())[:, y, x]
    rows = driver.find_elements("css selector", "#bars li")
    found = [(row.find_element("css selector", ".name").text, row.text.split("\n")[-1]) for row in rows]
    order = [k for k in np.argsort(-expected, kind="stable") if expected[k] >= 0.0005]
    assert found == [(NAMES[k], f"{100 * expected[k]:.1f} %") for k in order]
    assert (page.complaints(), page.hosts()) == ([], {"127.0.0.1"})


def test_keys(driver: Any, site: str) -> None:
    page = Page(driver, site)

    def press(selector: str, keys: str) -> None:
        page.find(selector).send_keys(keys)

    press("body", "n")
    page.wait(lambda: page.text("#status").startswith("first.png, "))
    press("body", "n")
    page.wait(lambda: page.text("#status").startswith("second.png, "))
    press("body", "p")
    page.wait(lambda: page.text("#status").startswith("first.png, "))
    page.point("A", 36, 20)
    press(".layers", "\ue014")  # to the right
    page.wait(lambda: "column 5, row 2 " in page.text("#looks"))
    press(".layers", "\ue015")  # down
    page.wait(lambda: "column 5, row 3 " in page.text("#looks"))
    press("body", "[")
    assert page.text("#number") == "0 of 0…1"
    press("body", ".")
    assert page.find("#heads [aria-pressed=true]").text == "0"
    press("body", "\ue00c")  # Escape
    assert not page.is_shown("canvas.attention")
    assert not page.is_shown(".mark")


def test_labels_are_downloaded(driver: Any, site: str, first: Path, folder: Path) -> None:
    page = Page(driver, site)
    page.choose("first.png")
    page.click("#downloads a")
    path = folder / "downloads/first_labels.png"
    page.wait(path.exists)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), segmented(first, blocks()))


def test_what_is_refused_is_told_in_the_page(driver: Any, site: str, folder: Path) -> None:
    page = Page(driver, site)
    page.choose("first.png")
    told = page.drop("huge.png", "image/png", 50_000_000)
    assert told.startswith("huge.png has 50 MB, and 20 MB are the limit for what is dropped here")
    assert "huge.png" not in str(page.hosts())  # nothing was sent
    assert "is a video: give it to the command" in page.drop("drive.mp4", "video/mp4", 1000)
    assert page.complaints() == []
    assert "notes.png is no picture" in page.drop("notes.png", "image/png", 1000)
    (folder / "notes.txt").write_text("no picture")
    page.find("#file").send_keys(str(folder / "notes.txt"))
    page.wait(lambda: "notes.txt is no picture" in page.text("#notice"))
    page.click("#notice button")
    assert not page.is_shown("#notice")
    assert page.text("#status").startswith("first.png, ")  # it stays


def test_an_upload_is_shown(driver: Any, site: str, first: Path, folder: Path) -> None:
    page = Page(driver, site)
    Image.fromarray(blocks(seed=7)).save(folder / "mine.png")
    page.find("#file").send_keys(str(folder / "mine.png"))
    page.wait(lambda: page.text("#status").startswith("mine.png, 70×45"))
    assert np.array_equal(page.pixels("canvas.labels"), painted(segmented(first, blocks(seed=7))))
    assert page.find("#list [aria-current=true]").text == "mine.png"
    assert (page.complaints(), page.hosts()) == ([], {"127.0.0.1"})


def test_a_second_checkpoint_is_compared(driver: Any, folder: Path, first: Path, second: Path) -> None:
    with serving([looker(first), looker(second, "linear.ckpt")], samples(folder / "compared")) as site:
        page = Page(driver, site)
        page.choose("first.png")
        labels = [segmented(path, blocks()) for path in (first, second)]
        differs = labels[0] != labels[1]
        assert 0 < differs.mean() < 1
        for pane, expected in zip("AB", labels, strict=True):
            assert np.array_equal(page.pixels(f"[data-pane={pane}] .labels"), painted(expected))
        assert np.array_equal(page.pixels("[data-pane=difference] .labels")[..., 3] == 255, differs)
        told = page.text("[data-pane=difference] figcaption span")
        assert told.startswith(f"{100 * differs.mean():.1f} % of the pixels: ")
        page.point("B", 36, 20)
        assert all(page.is_shown(f"[data-pane={pane}] .attention") for pane in "AB")
        page.click("#parts [data-value='dec']")
        assert page.is_shown("[data-pane=A] .attention")
        assert not page.is_shown("[data-pane=B] .attention")  # of a linear decoder
        page.click("[data-view=A]")
        assert not page.is_shown("[data-pane=A]")
        assert page.is_shown("[data-pane=difference]")
        assert [link.text for link in driver.find_elements("css selector", "#downloads a")] == [
            "↓ Labels A",
            "↓ Labels B",
        ]
        assert (page.complaints(), page.hosts()) == ([], {"127.0.0.1"})


def test_models_of_different_classes_are_not_subtracted(driver: Any, folder: Path, first: Path, other: Path) -> None:
    with serving([looker(first), looker(other, "other.ckpt")], samples(folder / "different")) as site:
        page = Page(driver, site)
        page.choose("first.png")
        assert page.text(".note") == "The two models know different classes: their labels cannot be compared."
        assert not driver.find_elements("css selector", "[data-pane=difference]")
        assert [heading.text for heading in driver.find_elements("css selector", "#legends h3")] == [
            "A: best.ckpt", "B: other.ckpt",
        ]  # fmt: skip
        assert page.complaints() == []


def test_a_video_plays(driver: Any, site: str, first: Path) -> None:
    page = Page(driver, site)
    for name, last in (("frames", blocks(seed=FRAMES - 1)), ("drive.mp4", None)):
        page.choose(name)
        before = page.pixels("canvas.labels")
        assert page.text("#where") == f"0 of {FRAMES}, 0.00 s"
        page.click("#play")
        assert page.text("#play") == "Pause"
        seen = []
        page.wait(lambda: seen.append(page.text("#where")) or page.text("#play") == "Play")  # noqa: B023
        assert page.text("#where").startswith(f"{FRAMES - 1} of {FRAMES}, ")
        assert len(set(seen)) >= 3
        assert not np.array_equal(page.pixels("canvas.labels"), before)
        if last is not None:
            assert np.array_equal(page.pixels("canvas.labels"), painted(segmented(first, last)))
        page.slide("#frame", 0)
        page.wait(lambda: np.array_equal(page.pixels("canvas.labels"), before))  # noqa: B023
    assert (page.complaints(), page.hosts()) == ([], {"127.0.0.1"})
