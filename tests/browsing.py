"""The page of `segmenter explore` in a headless Chromium of the system: what a person does there and sees."""

import base64
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000"
)
PIXELS = """
const canvas = document.querySelector(arguments[0]);
// A copy is read: a canvas that was read is drawn in another way from then on, which Chromium mentions.
const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
copy.drawImage(canvas, 0, 0);
const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
return [canvas.width, canvas.height, btoa(String.fromCharCode(...data))];
"""
SLIDE = """
const slider = document.querySelector(arguments[0]);
slider.value = arguments[1];
slider.dispatchEvent(new Event("input"));
"""
DROP = """
const [name, type, size] = arguments;
const transfer = new DataTransfer();
transfer.items.add(new File([new Uint8Array(size)], name, {type}));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
"""


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A browser with a profile and a folder for downloads of its own; the test is skipped where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    nowhere = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for flag in [*FLAGS.split(), nowhere, f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver by its path: otherwise selenium looks for one in the network.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page, just loaded."""

    def __init__(self, driver: Any, site: str) -> None:
        self.driver, self.run = driver, driver.execute_script
        for kind in ("browser", "performance"):  # of the page before
            driver.get_log(kind)
        driver.get(site)
        self.wait(lambda: self.run("return document.body.dataset.ready"))

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Until something is so; what it gave."""
        deadline = time.monotonic() + 60
        while not (found := condition()):
            assert time.monotonic() < deadline, (self.text("#notice"), self.driver.get_log("browser"))
            time.sleep(0.02)
        return found

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def is_shown(self, selector: str) -> bool:
        return self.find(selector).is_displayed()

    def choose(self, name: str) -> None:
        """A picture of the list, until its labels are there."""
        self.click(f"#list li[title='{name}'] button")
        self.wait(lambda: re.match(rf"{re.escape(name)}, .*\d×\d", self.text("#status")))

    def point(self, pane: str, x: int, y: int) -> None:
        """Click a pixel of a picture of 70 by 45 pixels whose patches have 8, until its attention is there."""
        from selenium.webdriver.common.action_chains import ActionChains

        layers = self.find(f"[data-pane={pane}] .layers")
        shares = (x + 0.5) / 70 - 0.5, (y + 0.5) / 45 - 0.5
        offset = shares[0] * layers.size["width"], shares[1] * layers.size["height"]
        ActionChains(self.driver).move_to_element_with_offset(layers, *offset).click().perform()
        self.wait(lambda: f"column {x // 8}, row {y // 8} " in self.text("#looks") and self.text("#at"))

    def pixels(self, selector: str) -> np.ndarray:
        """(height, width, 4) of a canvas."""
        width, height, data = self.run(PIXELS, selector)
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)

    def slide(self, selector: str, value: float) -> None:
        self.run(SLIDE, selector, value)

    def drop(self, name: str, kind: str, size: int) -> str:
        """A file of zeros; what the page then says."""
        self.run(DROP, name, kind, size)
        return self.wait(lambda: self.is_shown("#notice") and name in (text := self.text("#notice span")) and text)

    def complaints(self) -> list[str]:
        """What stands in the console since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def hosts(self) -> set[str | None]:
        """Where requests went since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).hostname for url in urls if urlsplit(url).scheme not in ("chrome", "data", "blob")}
