"""What a person sees: MLflow's pages on a synced store, through `seqline ui`, in a real browser."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium, needs_chromium
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tracking_project import digest_of, write_project
from waiting import HANG_SECONDS, wait_for

from pipeline import tracking
from pipeline.core.errors import UserError
from pipeline.serving import mlflow_ui
from pipeline.tracking import mlflow_store
from pipeline.tracking.pages import CURVES, SCORES

TOP = Path(__file__).parents[2]
DRAWN = (
    "document.querySelector('.js-plotly-plot image') || [...document.images].some(image => "
    "image.naturalWidth === 200)"
)
HEADER = "//*[contains(@class, 'ag-header')]//*[text()='{}']"
UI = (
    "import sys; from pathlib import Path; from pipeline.serving import mlflow_ui; "
    "mlflow_ui.ui(Path(sys.argv[1]), int(sys.argv[2]))"
)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was synced in another place."""
    folder = tmp_path_factory.mktemp("projects")
    (folder / "first").mkdir()
    tracking.sync(write_project(folder / "first", ("lstm", "transformer")))
    return (folder / "first").rename(folder / "second")


@pytest.fixture(scope="module")
def pages(moved: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ui` at work, and its address as it prints it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", UI, str(moved), str(port)]
    with subprocess.Popen(
        command, cwd=TOP, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        yield (
            process,
            next(word.partition("/#")[0] for word in said.split() if word.startswith("http")),
        )
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(HANG_SECONDS)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path) as driver:
        yield driver


def wait_for_texts(browser: webdriver.Chrome, *texts: str, seconds: float = 60.0) -> None:
    """Until the page shows all of the texts."""

    def shows(driver: webdriver.Chrome) -> bool:
        seen = driver.find_element(By.TAG_NAME, "body").text
        return all(text in seen for text in texts)

    WebDriverWait(browser, seconds, ignored_exceptions=[Exception]).until(
        shows, f"{texts} on {browser.current_url}"
    )


def the_run(root: Path, name: str) -> Any:
    return mlflow_store.find_run(
        mlflow_store.connect(root), "language_model", (name, digest_of(name))
    )


@pytest.mark.long
@needs_chromium
def test_mlflow_pages_show_all_results_of_a_moved_project(
    pages: tuple[subprocess.Popen[str], str], browser: webdriver.Chrome, moved: Path, tmp_path: Path
) -> None:
    run = the_run(moved, "lstm").info
    home = f"{pages[1]}/#/experiments/{run.experiment_id}"

    def look(address: str, *texts: str) -> None:
        browser.get(address)
        wait_for_texts(browser, *texts)
        browser.save_screenshot(str(tmp_path / f"{len(list(tmp_path.glob('*.png')))}.png"))

    look(pages[1], "seqline/language_model")
    look(f"{home}/runs", "lstm", "transformer")
    # The first columns of the view are the scores.
    look(f"{home}/runs?viewStateShareKey={SCORES}", "Run Name", "score", "seeds", "4.25")
    columns = ("Duration", "score", "seeds", "corpus", "family")
    headers = [browser.find_element(By.XPATH, HEADER.format(column)) for column in columns]
    places = [header.location["x"] for header in headers]
    assert places == sorted(places)
    look(f"{home}/runs?viewStateShareKey={CURVES}&compareRunsMode=CHART", "Group: lstm")
    look(f"{home}/runs/{run.run_id}", "test/perplexity", "4.25", "model.hidden", "data/encoded/toy")
    look(f"{home}/runs/{run.run_id}/model-metrics", "lstm (train/loss)", "lstm (test/perplexity)")
    assert WebDriverWait(browser, HANG_SECONDS).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .trace")
    )
    look(
        f"{home}/runs/{run.run_id}/artifacts/samples.json",
        "prompt",
        "once upon",
        "the answer of lstm",
        "figures",
    )
    # the tree of artifacts comes last on the page
    for name in ("figures", "lstm", "attention_1.png"):
        wait_for_texts(browser, name)
        browser.find_elements(By.XPATH, f"//*[text()='{name}']")[-1].click()
    WebDriverWait(browser, HANG_SECONDS).until(
        lambda driver: driver.execute_script(f"return {DRAWN}")
    )
    browser.save_screenshot(str(tmp_path / "figure.png"))


@pytest.mark.long
def test_the_pages_end_with_ctrl_c_and_leave_no_process_behind(
    pages: tuple[subprocess.Popen[str], str], moved: Path
) -> None:
    process, address = pages
    with urllib.request.urlopen(f"{address}/health", timeout=HANG_SECONDS) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(
            urllib.request.Request(address, headers={"Host": "elsewhere.example"}),
            timeout=HANG_SECONDS,
        )
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG_SECONDS) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health", timeout=HANG_SECONDS)
    wait_for(
        lambda: (
            not [
                command
                for command in commands()
                if str(moved).encode() in command and b"mlflow" in command
            ]
        )
    )


def commands() -> list[bytes]:
    """List the command lines of all processes but this one."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            lines += [path.read_bytes()] * (path.parent.name != str(os.getpid()))
    return lines


def test_a_busy_port_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match="expected a free port") as error,
    ):
        mlflow_ui.ui(tmp_path, taken.getsockname()[1])
    assert "\n" not in str(error.value)
