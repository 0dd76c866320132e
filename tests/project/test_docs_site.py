"""The documentation's site: its references to the book, its links, that it builds, and the main
kinds of page in a real browser, in both themes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import docs_site
import pytest
from axe_core_python.selenium import Axe
from chromium import chromium, needs_chromium
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from generator import links, references, tables  # noqa: E402

PAGES = ("index", "tour", "family/transformer", "params", "api", "notebook", "sections")
WIDE, NARROW = 1280, 390
MODULE = '''"""Attention (Vaswani et al. 2017; d2l sections 11.3 to
11.5)."""
from pipeline.nn.masks import real_BS


class Layer:
    """A layer (d2l section 11.7)."""

    def forward(self):
        """Scores of keys. More."""
        # Divide them (d2l
        # equation 11.3.6).
        return real_BS
'''


def test_references_have_number_line_and_the_definition_they_stand_in(tmp_path: Path) -> None:
    file = tmp_path / "layer.py"
    file.write_text(MODULE)
    in_module = references.find(tmp_path, file)
    assert [(r.kind, references.text_of(r.number), r.line, r.name, r.owner) for r in in_module] == [
        ("section", "11.3", 1, "layer", ""),
        ("section", "11.4", 1, "layer", ""),
        ("section", "11.5", 1, "layer", ""),
        ("section", "11.7", 6, "Layer", "Layer"),
        ("equation", "11.3.6", 11, "forward", "Layer"),
    ]
    assert in_module[0].says == "Attention"


def test_a_family_reaches_the_definitions_that_it_uses_and_no_others() -> None:
    reached = references.reached(ROOT, ROOT / "pipeline/models/attention_seq2seq.py")
    scores = reached[ROOT / "pipeline/nn/attention_scores.py"]
    assert {"Additive", "masked_softmax"} <= scores
    transformer = references.reached(ROOT, ROOT / "pipeline/models/transformer.py")
    assert "Recurrent" not in transformer.get(ROOT / "pipeline/nn/cells.py", ())


@pytest.mark.parametrize(
    ("document", "link", "page", "expected"),
    [
        (
            "docs/book.md",
            "[a](../pipeline/nn/dropout.py)",
            "book.md",
            "source/pipeline/nn/dropout.py.md",
        ),
        ("README.md", "[a](docs/book.md#results)", "index.md", "book.md#results"),
        ("docs/book.md", "[a](../CONTRIBUTING.md)", "book.md", "contributing.md"),
        ("docs/book.md", "[a](https://d2l.ai)", "book.md", "https://d2l.ai"),
        ("docs/book.md", "[a](#here)", "book.md", "#here"),
    ],
)
def test_links_to_files_become_links_to_pages(
    document: str, link: str, page: str, expected: str
) -> None:
    assert links.rewrite(link, document, page) == f"[a]({expected})"


def test_every_family_is_in_the_table() -> None:
    files = {file.stem for file in (ROOT / "pipeline/models").glob("[a-z]*.py")}
    assert {family.name for family in tables.families()} == files


class Page(HTMLParser):
    """Hosts that a page loads something from, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id" and value:
                self.ids.add(value)
            loads = key == "src" or (
                tag == "link" and key == "href" and ("rel", "canonical") not in attrs
            )
            if loads and value and re.match(r"(https?:)?//", value):
                self.loaded.append(value)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The site's folder, and how its build ended."""
    folder = tmp_path_factory.mktemp("site")
    return folder, docs_site.build(folder)


@pytest.fixture(scope="module")
def site(built: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    folder, build = built
    assert build.returncode == 0, build.stderr
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        # No page gets the theme of the one before.
        forget = {"source": "localStorage.clear()"}
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", forget)
        yield driver


@pytest.mark.long
def test_the_site_builds_without_warnings_and_loads_nothing_from_elsewhere(
    built: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, build = built
    assert build.returncode == 0, build.stderr
    assert "WARNING" not in build.stdout + build.stderr
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in folder.rglob("*.html")}
    assert not {str(file): page.loaded for file, page in pages.items() if page.loaded}

    # An equation's link leads to its line.
    text = (folder / "family/attention_seq2seq.html").read_text(encoding="utf-8")
    targets = re.findall(r'href="\.\./(source/[^"#]+\.html)#(line-\d+)"', text)
    assert targets
    for file, anchor in targets:
        assert anchor in pages[folder / file].ids


@pytest.mark.long
@needs_chromium
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
    shown = browser.execute_script("return document.body.dataset.mdColorScheme")
    assert shown == {"light": "default", "dark": "slate"}[theme]
    violations = Axe().run(browser)["violations"]
    assert {v["id"]: [node["html"] for node in v["nodes"]] for v in violations} == {}
    root = "document.documentElement"
    assert browser.execute_script(f"return {root}.scrollWidth") <= width


@pytest.mark.long
@needs_chromium
def test_every_picture_of_the_tour_is_shown(browser: webdriver.Chrome, site: Path) -> None:
    browser.get((site / "tour.html").as_uri())
    widths = browser.execute_script(
        "return [...document.images].map(image => [image.src, image.naturalWidth, image.alt])"
    )
    assert len(widths) >= 8
    assert [source for source, width, text in widths if not (width and text)] == []


def test_the_chinese_readme_names_files_and_commands_that_exist() -> None:
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"`(pipeline/[\w/]+(?:\.py)?)/?`", chinese):
        assert (ROOT / path).exists() or f"`{path}`" in english, path
    for block in re.findall(r"```\n(.*?)```", chinese, re.DOTALL):
        for line in block.splitlines():
            assert line.partition(" # ")[0].strip() in english


def _messages() -> list[str]:
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


FROM_ELSEWHERE = {"Disk quota exceeded", "No space left on device"}  # the operating system's


@pytest.mark.parametrize("message", sorted(set(_messages()) - FROM_ELSEWHERE))
def test_messages_of_troubleshooting_are_those_of_the_code(message: str) -> None:
    """Literal parts of a message, in order, are literals of one file."""
    parts = [part for part in message.removeprefix("expected ").split(" nan") if part.strip()]
    files = [*(ROOT / "pipeline").rglob("*.py"), ROOT / "bootstrap.py"]
    joined = [re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8")) for file in files]
    assert any(all(part in text for part in parts) for text in joined)
