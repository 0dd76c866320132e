"""Renew the pictures of docs/tour.md: `python docs/generator/pictures.py`, after `make repro`, with
a clean tree, inside the environment.

It works in a clone, whose data come from this project's DVC cache. The commands of the tour run
there: one experiment trains three seeds. Terminals become SVG, and pages become PNG with few
colors. A picture that would show a folder or the host of this machine is refused; the
user is called `reader`."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tests/helpers")]

from chromium import chromium  # noqa: E402

from generator import terminal  # noqa: E402

PICTURES = ROOT / "docs/images/tour"
LARGEST = 150_000  # bytes of a picture
COLUMNS = 100
SENTENCE = "where do the birds sing ?"
CHANGE = "dvc exp run -S settings.transformer.model.heads=8"
SHOW = "dvc exp show --only-changed --drop '.*/'"
WIDTH = 1280
SECONDS = 300  # for a page to appear, or a server to start, on a busy machine
SETTLED = 3  # seconds in which charts draw themselves anew
# JavaScript: the links of MLflow's table to the rows of the Transformer.
LINKS = (
    "[...document.querySelectorAll('a[href*=\"/runs/\"]')]"
    ".filter(link => /(^|· )transformer( |$)/.test(link.textContent.trim()))"
)
# Panels that MLflow opens at the first visit stay closed.
MLFLOW_SETTINGS = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}


def main() -> None:
    """Write all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        root = make_clone(home)
        environment = environment_of(home, root)
        with chromium(home) as browser:
            draw_first_pages(browser, root, environment)
            draw_terminals(root, environment)
            draw_comparisons(browser, root, environment)


def make_clone(home: Path) -> Path:
    """Clone this project into ~/seqline of the folder `home`, with its data and its MLflow store,
    which knows how long the trainings took, as do the times of its stages."""
    root = home / "seqline"
    clone = ["git", "-c", "advice.detachedHead=false", "clone", "--quiet", str(ROOT), str(root)]
    subprocess.run(clone, check=True)
    dvc = [sys.executable, "-m", "dvc"]
    cache = str(ROOT / ".dvc/cache")
    subprocess.run([*dvc, "cache", "dir", "--local", cache], cwd=root, check=True)
    subprocess.run([*dvc, "checkout", "--quiet"], cwd=root, check=True)
    shutil.copy(ROOT / "mlflow.db", root)
    shutil.copytree(ROOT / ".seqline/tracking", root / ".seqline/tracking")
    durations = Path(".seqline/flow/seconds.json")
    (root / durations).parent.mkdir()
    shutil.copy(ROOT / durations, root / durations)
    (home / ".gitconfig").write_text("[user]\nname = reader\nemail = reader@example.org\n")
    return root


def environment_of(home: Path, root: Path) -> dict[str, str]:
    """The variables of a reader whose home has nothing but the project."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    named = {"HOME": str(home), "LOGNAME": "reader", "USER": "reader", "PATH": path}
    quiet = {"DVC_PAGER": "cat", "DVC_NO_ANALYTICS": "1", "TERM": "xterm-256color"}
    return named | quiet | {"PYTHONPATH": str(root), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def draw_terminals(root: Path, environment: dict[str, str]) -> None:
    """The commands of the tour, in its order."""

    def run(command: str, columns: int = COLUMNS) -> str:
        print(f"$ {command}", flush=True)
        return terminal.output(command, root, environment, columns)

    def draw(name: str, screens: list[tuple[str, str]], columns: int = COLUMNS) -> None:
        save(f"{name}.svg", terminal.picture(screens, columns).encode(), root)

    results = "seqline results"
    draw("results", [(results, run(results))])

    ask = f"seqline translate {shlex.quote(SENTENCE)}".replace("'", '"')
    look = f"{ask} --run attention --heatmap attention.png"
    draw("translate", [(command, run(command)) for command in (ask, look)])
    save("attention.png", (root / "attention.png").read_bytes(), root)

    run("seqline sync")  # as `make repro` ends
    run(CHANGE)
    differences = "dvc metrics diff"
    wide = 120
    draw("experiment", [(command, run(command, wide)) for command in (differences, SHOW)], wide)
    run("dvc plots diff HEAD workspace")


def draw_first_pages(browser: webdriver.Chrome, root: Path, environment: dict[str, str]) -> None:
    """The report and the demo, as `make repro` leaves them."""
    browser.get((root / "reports/index.html").as_uri())
    photograph(browser, "report", root, 830)

    with server("seqline demo --port 5998", 5998, root, environment) as address:
        browser.get(address)
        wait(browser, "document.querySelectorAll('#commands input').length > 0")
        browser.execute_script("document.getElementById('text').value = arguments[0]", SENTENCE)
        browser.execute_script("document.getElementById('ask').click()")
        wait(browser, "document.querySelectorAll('article').length > 1")
        wait(browser, "document.getElementById('answers').getAttribute('aria-busy') === 'false'")
        photograph(browser, "demo", root, 1300)


def draw_comparisons(browser: webdriver.Chrome, root: Path, environment: dict[str, str]) -> None:
    """DVC's charts and MLflow's pages, after the experiment."""
    browser.get((root / "dvc_plots/index.html").as_uri())
    wait(browser, "document.querySelectorAll('.vega-embed canvas, .vega-embed svg').length > 10")
    for kind in ("learning_curves", "scores"):  # the charts of translators come first
        chart = f"document.querySelector('[id^=reports_charts_{kind}_translation]')"
        browser.execute_script(f"document.body.prepend({chart})")
    photograph(browser, "plots", root, 820)

    with server("seqline ui --port 5999", 5999, root, environment) as address:
        browser.get(address)
        for key, value in MLFLOW_SETTINGS.items():
            browser.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)
        draw_mlflow(browser, root, address)


def draw_mlflow(browser: webdriver.Chrome, root: Path, address: str) -> None:
    """The table of translators, and the comparison of the settings with four and eight heads."""
    experiment = experiment_id(root)
    page = f"{address}#/experiments/{experiment}/runs?viewStateShareKey=scores"
    browser.get(f"{page}&workflowType=machine_learning")
    browser.refresh()
    wait(browser, f"{LINKS}.length > 1")
    browser.execute_script("document.querySelector('[aria-label=\"Hide banner\"]')?.click()")
    photograph(browser, "mlflow_runs", root, 640)

    runs = browser.execute_script(f"return {LINKS}.map(link => link.href.split('/').pop())")
    query = f'runs={json.dumps(runs[:2])}&experiments=["{experiment}"]'
    browser.get(f"{address}#/compare-runs?{query}")
    browser.refresh()
    wait(browser, "document.querySelectorAll('main svg, main table').length > 1")
    # Two runs are two points of the plot. The tables say more.
    for title in ("Visualizations", "Run details"):
        heading = f"//*[normalize-space(text())='{title}']"
        browser.find_element("xpath", heading).click()
    photograph(browser, "mlflow_compare", root, 790)


def experiment_id(root: Path) -> str:
    """MLflow's id of the experiment of translators."""
    from pipeline.tracking import mlflow_store

    client = mlflow_store.connect(root)
    return str(mlflow_store.find_experiment(client, "translation").experiment_id)


def wait(browser: webdriver.Chrome, condition: str) -> None:
    """Wait until an expression of JavaScript is true on the page."""
    waiting = WebDriverWait(browser, SECONDS)
    waiting.until(lambda page: page.execute_script(f"return {condition}"), condition)


@contextmanager
def server(command: str, port: int, root: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a server until the end of the block; yield its address."""
    process = subprocess.Popen(
        shlex.split(command), cwd=root, env=environment, start_new_session=True
    )
    try:
        for _ in range(10 * SECONDS):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()


def photograph(browser: webdriver.Chrome, name: str, root: Path, height: int) -> None:
    """Save what the browser shows on a screen of this height."""
    screen = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    time.sleep(SETTLED)
    refuse_private(name, browser.find_element("tag name", "body").text, root)
    save(f"{name}.png", browser.get_screenshot_as_png(), root)


def save(name: str, content: bytes, root: Path) -> None:
    """Write a picture, a PNG with few colors. RuntimeError if it is large or names this machine."""
    if name.endswith(".png"):
        image = Image.open(io.BytesIO(content)).convert("RGB").quantize(128)
        smaller = io.BytesIO()
        image.save(smaller, "PNG", optimize=True)
        content = smaller.getvalue()
    else:
        content = content.replace(str(root).encode(), b"~/seqline")
        refuse_private(name, content.decode(), root)
    if len(content) > LARGEST:
        raise RuntimeError(f"{name}: got {len(content)} bytes; expected at most {LARGEST}.")
    (PICTURES / name).write_bytes(content)
    print(f"{name}: {len(content)} bytes", flush=True)


def refuse_private(name: str, text: str, root: Path) -> None:
    """RuntimeError if the text names a folder or the host of this machine."""
    private = {str(root.parent), str(ROOT), str(Path.home()), socket.gethostname()}
    shown = sorted(word for word in private if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text))
    if shown:
        raise RuntimeError(f"{name} shows {', '.join(shown)}.")


if __name__ == "__main__":
    main()
