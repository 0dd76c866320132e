"""Chromium for tests of pages, without a window and without the network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --window-size=1500,2200"
)
SCRIPT_SECONDS = 110  # of a busy machine; selenium waits for 120 s for any answer

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with its chromedriver on the PATH"
)


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser whose profile is in `folder`; end it after the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={folder / 'browser'}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(SCRIPT_SECONDS)
    try:
        yield driver
    finally:
        driver.quit()
