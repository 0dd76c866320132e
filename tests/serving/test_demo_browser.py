"""The page of `seqline demo` in a real browser: keyboard, hostile text, both themes, axe."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from chromium import chromium, needs_chromium
from demo_server import running
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from pipeline.predictions import TrainedRun
from pipeline.serving import demo

pytestmark = [pytest.mark.long, needs_chromium]

HOSTILE = "<img src=x onerror=document.title='owned'>"
SECONDS = 60


def answer(self: demo.Demo, texts: Sequence[Any], params: Mapping[str, Any]) -> list[Any]:
    """A row that repeats the text, without a model."""
    weights = {"name": "weights", "weights": [[0.9, 0.1], [0.2, 0.8]]}
    row = {
        "setting": "echo", "family": "echo", "run": "echo-1", "score": "", "text": texts[0],
        "prompt": [], "tokens": [f" {texts[0]}", " b"], "probabilities": [0.125, 0.9],
        "attention": {"columns": ["x", "y"], "rows": [texts[0], "b"], "maps": [weights]},
        "unknown": [texts[0]],
    }  # fmt: skip
    return [row, {"setting": "other", "family": "other", "run": "r", "score": "", "error": HOSTILE}]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    files = TrainedRun(Path(), Path(), None, "cpu")
    run = demo.DemoRun(
        "echo-1", "echo-1, the first of 2 seeds", "echo", "echo", "", "translation", files
    )
    panels = [demo.Panel("translate", "toy", ("hello .",), False, (run,))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.Demo, "answer", answer)
        with running(lambda port: demo.app(panels, port)) as port:
            yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def ask(browser: webdriver.Chrome, address: str, text: str) -> None:
    """Ask by the keyboard alone."""
    browser.get(address)
    WebDriverWait(browser, SECONDS).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "#commands input")
    )
    area = browser.find_element(By.ID, "text")
    area.clear()
    area.send_keys(text, Keys.ENTER)
    WebDriverWait(browser, SECONDS).until(
        lambda driver: driver.find_elements(By.TAG_NAME, "article")
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_fault_and_nothing_is_wider_than_the_screen(
    browser: webdriver.Chrome, address: str, width: int, theme: str
) -> None:
    scheme = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == 390}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    ask(browser, address, "hello .")
    violations = Axe().run(browser)["violations"]
    assert {v["id"]: [node["html"] for node in v["nodes"]] for v in violations} == {}
    assert browser.execute_script("return document.documentElement.scrollWidth") == width


def test_markup_is_shown_as_text(browser: webdriver.Chrome, address: str) -> None:
    ask(browser, address, HOSTILE)
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert browser.title == "seqline demo"
    assert HOSTILE in browser.find_element(By.TAG_NAME, "article").text
    assert HOSTILE in browser.find_element(By.ID, "unknown").text
    assert browser.find_element(By.CSS_SELECTOR, "article .problem").text == HOSTILE


def test_the_number_of_a_word_shows_when_it_has_the_focus(
    browser: webdriver.Chrome, address: str
) -> None:
    ask(browser, address, "hello .")
    word = browser.find_element(By.CSS_SELECTOR, ".words .likely")
    number = word.find_element(By.TAG_NAME, "small")
    assert not number.is_displayed()
    browser.execute_script("arguments[0].focus()", word)
    assert (number.is_displayed(), number.text) == (True, "0.13")
