"""The main kinds of page of the documentation's site in a real browser, in both themes."""

from collections.abc import Iterator
from pathlib import Path

import docs_site
import pytest
from axe_core_python.selenium import Axe
from chromium import chromium, needs_chromium
from selenium import webdriver

pytestmark = [pytest.mark.long, needs_chromium]

PAGES = ("index", "tour", "family/transformer", "params", "api", "notebook", "sections")
WIDE, NARROW = 1280, 390


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = docs_site.build(folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_no_fault_and_nothing_is_wider_than_the_screen(
    browser: webdriver.Chrome, site: Path, page: str, width: int, theme: str
) -> None:
    scheme = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get((site / f"{page}.html").as_uri())
    browser.execute_script("localStorage.clear()")  # the theme of the page before
    browser.refresh()
    shown = browser.execute_script("return document.body.dataset.mdColorScheme")
    assert shown == {"light": "default", "dark": "slate"}[theme]
    violations = Axe().run(browser)["violations"]
    assert {v["id"]: [node["html"] for node in v["nodes"]] for v in violations} == {}
    root = "document.documentElement"
    assert browser.execute_script(f"return {root}.scrollWidth") <= width


def test_every_picture_of_the_tour_is_shown(browser: webdriver.Chrome, site: Path) -> None:
    browser.get((site / "tour.html").as_uri())
    widths = browser.execute_script(
        "return [...document.images].map(image => [image.src, image.naturalWidth, image.alt])"
    )
    assert len(widths) >= 8
    assert [source for source, width, text in widths if not (width and text)] == []
