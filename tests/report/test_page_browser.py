"""The report's page in a real browser: on wide and narrow screens, in both themes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stage_runs
import synthetic_runs
from axe_core_python.selenium import Axe
from chromium import chromium, needs_chromium
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from stage_runs import run_evaluate

pytestmark = [pytest.mark.long, needs_chromium]

TRANSLATORS = {"transformer-1": 0.05, "transformer-2": 0.06, "attention_with_a_long_name": 0.25}
WIDE, NARROW = 1280, 390


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = synthetic_runs.project(tmp_path_factory.mktemp("page"), TRANSLATORS, {"lstm": 2.1})
    for name in TRANSLATORS:
        run_evaluate(root, name, "pairs")
    run_evaluate(root, "lstm", "story")
    stage_runs.run(root, "report")
    return root / "reports/index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def show(browser: webdriver.Chrome, page: Path, width: int, theme: str = "light") -> None:
    """Show the page on a screen of this width, in pixels."""
    scheme = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(page.as_uri())


def unfold(browser: webdriver.Chrome) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(it => it.open = true)")


def value(browser: webdriver.Chrome, script: str) -> Any:
    return browser.execute_script(f"return {script}")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_axe_finds_no_fault(browser: webdriver.Chrome, page: Path, width: int, theme: str) -> None:
    show(browser, page, width, theme)
    unfold(browser)
    violations = Axe().run(browser)["violations"]
    assert {v["id"]: [node["html"] for node in v["nodes"]] for v in violations} == {}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_only_tables_and_charts_scroll_sideways(
    browser: webdriver.Chrome, page: Path, width: int
) -> None:
    show(browser, page, width)
    unfold(browser)
    root = "document.documentElement"
    assert value(browser, f"{root}.scrollWidth") == value(browser, f"{root}.clientWidth")


def test_scores_are_visible_on_a_narrow_screen(browser: webdriver.Chrome, page: Path) -> None:
    show(browser, page, NARROW)
    tables = browser.find_elements(By.CSS_SELECTOR, "section > .wide:first-of-type table")
    assert len(tables) >= 3  # the overview and two rankings
    for table in tables:
        for cell in table.find_elements(By.CSS_SELECTOR, "tr > :nth-child(3)"):
            assert cell.rect["x"] >= 0
            assert cell.rect["x"] + cell.rect["width"] <= NARROW, cell.text


def test_details_are_closed_until_they_are_opened(browser: webdriver.Chrome, page: Path) -> None:
    show(browser, page, WIDE)
    closed = value(browser, "document.documentElement.scrollHeight")
    runs = browser.find_element(By.XPATH, "//details[summary/h3[text()='Runs']]")
    assert not runs.find_element(By.TAG_NAME, "table").is_displayed()
    runs.find_element(By.TAG_NAME, "summary").click()
    assert runs.find_element(By.TAG_NAME, "table").is_displayed()
    unfold(browser)
    assert value(browser, "document.documentElement.scrollHeight") > 2 * closed


def test_a_row_of_attention_shows_its_weights_under_the_pointer(
    browser: webdriver.Chrome, page: Path
) -> None:
    show(browser, page, WIDE)
    unfold(browser)
    row = browser.find_element(By.CSS_SELECTOR, ".heat:not(.numbers) tbody tr")
    number = row.find_element(By.CSS_SELECTOR, "td span")
    assert number.value_of_css_property("opacity") == "0"
    ActionChains(browser).move_to_element(row).perform()
    assert number.value_of_css_property("opacity") == "1"
    other = browser.find_elements(By.CSS_SELECTOR, ".heat:not(.numbers) tbody tr")[-1]
    hidden = other.find_element(By.CSS_SELECTOR, "td span")
    assert hidden.value_of_css_property("opacity") == "0"
    browser.find_element(By.CSS_SELECTOR, ".all-numbers").click()
    assert hidden.value_of_css_property("opacity") == "1"


def test_colours_follow_the_theme(browser: webdriver.Chrome, page: Path) -> None:
    seen = []
    for theme in ("light", "dark"):
        show(browser, page, WIDE, theme)
        paper = value(browser, "getComputedStyle(document.body).backgroundColor")
        ticks = value(browser, "getComputedStyle(document.querySelector('svg text')).fill")
        seen.append((paper, ticks))
    assert seen[0][0] == "rgb(255, 255, 255)"
    assert all(light != dark for light, dark in zip(*seen, strict=True))


def test_the_page_asks_for_nothing_else(browser: webdriver.Chrome, page: Path) -> None:
    show(browser, page, WIDE)
    unfold(browser)
    assert value(browser, "performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
