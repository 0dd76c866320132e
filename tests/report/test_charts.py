"""The charts of `dvc plots`: their tables, their templates, and the page that needs no network."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flows
import pytest
import stage_runs
import synthetic_runs
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
PLOTS = ROOT / ".dvc/plots"
TRANSLATORS = {"seq2seq": 0.5, "transformer": 0.05}
MODELS = {"rnn": 2.6}
Rows = list[dict[str, str]]


def definitions() -> dict[str, dict[str, str]]:
    """The top-level `plots` of dvc.yaml, by folder."""
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    return {folder: options for plot in plots for folder, options in plot.items()}


def rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = synthetic_runs.project(tmp_path_factory.mktemp("charts"), TRANSLATORS, MODELS, rows=80)
    for name in TRANSLATORS:
        stage_runs.run_evaluate(root, name, "pairs")
    stage_runs.run_evaluate(root, "rnn", "story")
    stage_runs.run(root, "report")
    return root


def test_scores_are_those_of_the_metrics(reported: Path) -> None:
    for row in rows(reported / "reports/charts/scores/translation_pairs.csv"):
        metrics = json.loads((reported / f"reports/metrics/{row['setting']}.json").read_text())
        assert float(row["score"]) == metrics["test"]["bleu"]["score"]
        assert int(row["seed"]) == 1


@pytest.mark.parametrize(
    ("kind", "files", "x", "y"),
    [
        ("by_length", {"BLEU by length": ("by_length.csv", "bleu")}, "length", "score"),
        (
            "learning_curves",
            {
                "Training loss, nats per token": ("training.csv", "train_loss"),
                "Validation perplexity": ("history.csv", "valid_perplexity"),
            },
            "step",
            "value",
        ),
    ],
)
def test_curves_are_those_of_the_runs(
    kind: str, files: dict[str, tuple[str, str]], x: str, y: str, reported: Path
) -> None:
    table = rows(reported / f"reports/charts/{kind}/translation_pairs.csv")
    panel = next(iter(table[0]))
    assert {row[panel] for row in table} == set(files)
    for name in TRANSLATORS:
        for title, (file, column) in files.items():
            of_run = rows(reported / "reports/plots" / name / file)
            expected = [(row[x], row[column]) for row in of_run if row[column]]
            assert expected
            assert [
                (row[x], row[y]) for row in table if (row["setting"], row[panel]) == (name, title)
            ] == expected


def test_a_kind_of_chart_that_no_task_has_is_an_empty_table(reported: Path) -> None:
    folder = reported / "reports/charts/confusion"
    assert [path.name for path in folder.iterdir()] == ["none.csv"]
    assert rows(folder / "none.csv") == []


def test_every_folder_of_charts_has_a_template_for_its_columns(reported: Path) -> None:
    folders = {f"reports/charts/{path.name}" for path in (reported / "reports/charts").iterdir()}
    assert set(definitions()) == folders
    for folder, options in definitions().items():
        template = (PLOTS / f"{options['template']}.json").read_text()
        for path in (reported / folder).iterdir():
            header = path.read_text().splitlines()[0].split(",")
            # What DVC adds, and what the template computes.
            known = {*header, "rev", "share", "rows", "<DVC_METRIC_X>", "<DVC_METRIC_Y>"}
            assert {options["x"], options["y"]} <= set(header)
            assert set(re.findall(r'"field": "([^"]+)"', template)) <= known


def test_the_page_has_vega_of_the_major_versions_that_dvc_s_own_page_has() -> None:
    page = (PLOTS / "page.html").read_text(encoding="utf-8")
    assert "{plot_divs}" in page
    assert "{scripts}" not in page, "DVC would add its own, which need the network"
    assert re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page) == []

    program = "from dvc_render.vega import VegaRenderer; print(VegaRenderer.SCRIPTS)"
    own = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    loaded = re.findall(r"npm/([\w-]+@\d+)", own)
    assert loaded
    assert re.findall(r"<script>/\* ([\w-]+@\d+)", page) == loaded


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A browser without a network."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:1"),
        f"--user-data-dir={tmp_path / 'browser'}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.long
@pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with its chromedriver on the PATH"
)
def test_charts_of_two_revisions_are_drawn_without_a_network(
    reported: Path, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copytree(reported / "reports/charts", root / "reports/charts")
    confusion = root / "reports/charts/confusion"
    (confusion / "none.csv").rename(confusion / "classification.csv")
    with (confusion / "classification.csv").open("a") as file:
        file.write("rnn,1,good,good,3\nrnn,1,good,bad,1\nrnn,1,bad,bad,4\n")
    plots = [{folder: options} for folder, options in definitions().items()]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    scores = root / "reports/charts/scores/translation_pairs.csv"
    scores.write_text(scores.read_text().replace("seq2seq", "attention"))

    done = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "workspace"],
        cwd=root,
        env=flows.surroundings(tmp_path, None),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    browser.get(done.stdout.strip())
    number = len(list((root / "reports/charts").rglob("*.csv")))
    WebDriverWait(browser, HANG_SECONDS).until(
        lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".marks")) == number
    )
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert browser.execute_script(  # the pixels of each canvas are not all equal
        "return [...document.querySelectorAll('canvas.marks')].every(canvas => new Set("
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size > 8)"
    )
