"""The ledger of figures: every claim holds, and an altered figure is caught."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.cli import ledger, ledger_update
from pipeline.cli import ledger_document as markdown
from pipeline.cli.ledger_report import Cell, Report, deviation_interval, mean_interval
from pipeline.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SECTION = "Classifiers on reviews"
REPORT = f"""# Comparison

## {SECTION}

|  | setting | seeds | accuracy, % | test_long | better than |
| ---: | --- | ---: | ---: | ---: | --- |
| 1 | `cnn` | 3 | 94.00 ± 0.50 | 80.10 ± 0.00 | `mlp`, `bayes` |
| 2 | `bayes` | none | 71.75 [69.75, 73.83] | 60.00 | – |

### Further scores

| setting | F1, % |
| --- | ---: |
| `cnn` | 93.5% ± 0.7% |
"""
TABLE = """| setting | accuracy, % | `test_long` | better than |
|---|---:|---:|---|
| `cnn` | 94.00 ± 0.50 | 80.10 ± 0.00 | `mlp`, `bayes` |
| `bayes` | 71.75 [69.75, 73.83] | 60.00 | – |
"""
MEASURED = {
    "file": "README.md",
    "command": "make it",
    "commit": "1234567",
    "date": "2026-11-28",
    "device": "a CPU",
    "seeds": "1",
    "code": ["pipeline"],
}


def project(root: Path, text: str, *claims: dict[str, object]) -> Path:
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports/comparison.md").write_text(REPORT)
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "README.md").write_text(text)
    (root / "claims.yaml").write_text("# A comment.\n" + yaml.safe_dump({"claims": list(claims)}))
    return root


def derived(text: str, *columns: str, setting: str = "cnn") -> dict[str, object]:
    keys = [f"{SECTION} > {setting} > {column}" for column in columns]
    return {"name": "derived", "file": "README.md", "text": text, "keys": keys}


def table() -> dict[str, object]:
    digest = ledger.table_digest(TABLE, (0, len(TABLE)))
    return {
        "name": "table",
        "file": "README.md",
        "caption": "**Reviews**",
        "report": SECTION,
        "figures": digest,
    }


def quoted(heading: str, text: str) -> dict[str, object]:
    digest = markdown.number_digest(text, (0, len(text)), [])
    return {
        "name": "quoted",
        "file": "README.md",
        "section": heading,
        "figures": digest,
        "source": "a book",
    }


def problems(root: Path) -> list[str]:
    return [finding.problem for finding in ledger.wrong(root, ledger.load(root))]


def test_every_figure_of_the_project_has_a_claim_and_every_claim_holds() -> None:
    assert problems(ROOT) == []
    # The search for figures without a claim does find them.
    for name, least in {"README.md": 40, "docs/results.md": 500, "docs/deployment.md": 2}.items():
        document = (ROOT / name).read_text(encoding="utf-8")
        assert len(list(markdown.decimals(document, []))) >= least


def copy_documents(root: Path) -> Path:
    files = ["claims.yaml", "dvc.yaml", "dvc.lock", "reports/comparison.md", *ledger.DOCUMENTS]
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    shutil.copytree(ROOT / "docs/images", root / "docs/images")
    assert problems(root) == []
    return root


@pytest.mark.parametrize("name", ledger.DOCUMENTS)
def test_a_digit_of_the_project_s_documents_that_was_altered_by_hand_is_caught(
    tmp_path: Path, name: str
) -> None:
    """The first digit of about six decimal figures of each document."""
    claims = ledger.load(copy_documents(tmp_path))
    document = (ROOT / name).read_text(encoding="utf-8")
    lines = document.splitlines(keepends=True)
    found = list(markdown.decimals(document, []))
    for line, figure in found[:: max(len(found) // 6, 1)]:
        altered = figure.replace(figure[0], str((int(figure[0]) + 1) % 10), 1)
        edited = lines.copy()
        edited[line - 1] = edited[line - 1].replace(figure, altered, 1)
        (tmp_path / name).write_text("".join(edited), encoding="utf-8")
        assert list(ledger.wrong(tmp_path, claims)), (line, figure)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("README.md", r"\| (`\w+`(, `\w+`)*|all below) \|$", "| – |"),
        ("README.md", r"\[(\d\d\.\d\d), \d\d\.\d\d\]", r"[\1, 99.99]"),
        ("README.md", "14 of 1,000", "1 of 1,000"),
        ("docs/results.md", "22 to 27 s each", "22 to 72 s each"),
        ("docs/reliability.md", "210 MB to", "120 MB to"),
        ("docs/architecture.md", "## Scores\n", "## Scores\n\nBLEU is 97.5.\n"),
    ],
)
def test_other_edits_of_the_project_s_documents_are_caught(
    tmp_path: Path, name: str, old: str, new: str
) -> None:
    copy_documents(tmp_path)
    document = (ROOT / name).read_text(encoding="utf-8")
    edited, count = re.subn(old, new, document, count=1, flags=re.MULTILINE)
    assert count == 1
    (tmp_path / name).write_text(edited, encoding="utf-8")
    assert any(name in problem for problem in problems(tmp_path))


@pytest.mark.parametrize("figure", ["94.00", "94.0 ± 0.50", "92.3", "95.7", "95.70 ± 3.1"])
def test_figures_within_the_interval_of_other_seeds_hold(figure: str) -> None:
    """94 ± 4.303 · 0.5 · √(2/3) is 92.24 to 95.76; the deviation is 0.5 times 0.16 to 6.24."""
    assert Cell("94.00 ± 0.50", 3).problem(figure) == ""


@pytest.mark.parametrize("figure", ["92.2", "95.8", "49.00", "94.00 ± 0.07", "94.00 ± 3.2", "high"])
def test_figures_outside_of_the_interval_are_wrong(tmp_path: Path, figure: str) -> None:
    root = project(tmp_path, f"CNN: {figure}", derived(f"CNN: {{{figure}}}", "accuracy, %"))
    [problem] = problems(root)
    assert problem.startswith(
        f"README.md says {figure} for {SECTION} > cnn > accuracy, %; expected 94.00"
    )


def test_intervals_cover_another_set_of_seeds_in_95_of_100_cases() -> None:
    generator = np.random.default_rng(1)
    pairs = generator.normal(size=(4000, 2, 3))
    means, deviations = pairs.mean(axis=2), pairs.std(axis=2, ddof=1)
    covered = np.zeros(2)
    for (first, second), (spread, other) in zip(means, deviations, strict=True):
        low, high = mean_interval(first, spread, 3)
        least, most = deviation_interval(spread, 3)
        covered += [low <= second <= high, least <= other <= most]
    # Three standard errors of a share of 0.95 in 4,000 are 0.010.
    np.testing.assert_allclose(covered / 4000, 0.95, atol=0.0105)


def test_a_value_without_seeds_must_be_as_the_report_has_it() -> None:
    cell = Cell("71.75 [69.75, 73.83]", 0)
    assert [cell.problem(text) for text in ["71.75", "71.75 [69.75, 73.83]"]] == ["", ""]
    assert cell.problem("71.76") == "expected 71.75"
    assert cell.problem("71.75 [69.75, 73.88]") == "expected 71.75 [69.75, 73.83]"


def test_cells_of_all_tables_of_a_section_have_the_seeds_of_their_setting(tmp_path: Path) -> None:
    report = Report(project(tmp_path, ""))
    assert report.cell(f"{SECTION} > cnn > F1, %") == Cell("93.5% ± 0.7%", 3)
    assert report.cell(f"{SECTION} > bayes > accuracy, %").seeds == 0


@pytest.mark.parametrize("text", ["The CNN: 95.00", "The CNN:\n95.00"])
def test_figure_altered_in_the_document_alone_is_caught(tmp_path: Path, text: str) -> None:
    root = project(tmp_path, text, derived("CNN: {94.00}", "accuracy, %"))
    assert problems(root) == [
        "README.md does not say 'CNN: 94.00'",
        f"README.md:{1 + text.count(chr(10))}: 95.00 has no claim; add one to claims.yaml",
    ]


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [("94.00", "94.10", 1), ("94.00", "64.00", 2), ("`mlp`, `bayes`", "`mlp`", 2)],
)
def test_a_table_that_was_edited_is_caught(tmp_path: Path, old: str, new: str, count: int) -> None:
    """By its digest, and by the report's cells beyond other seeds."""
    root = project(tmp_path, f"**Reviews**\n\n{TABLE.replace(old, new)}\nEnd.", table())
    found = problems(root)
    assert len(found) == count
    assert "the table after '**Reviews**' was edited" in found[0]


def test_a_table_without_a_setting_of_the_report_is_caught(tmp_path: Path) -> None:
    root = project(tmp_path, f"**Reviews**\n\n{TABLE.replace('`bayes` | 7', '`nb` | 7')}", table())
    assert problems(root)[1:] == [
        f"README.md: {SECTION} has the settings cnn, nb, not cnn, bayes",
    ]


def test_numbers_of_a_section_may_not_change_but_its_words_may(tmp_path: Path) -> None:
    text = "## Times\n\nIt took 5.5 s and 1,200 steps.\n"
    claim = quoted("Times", text)
    end = "\n## More\n\nText.\n"
    assert problems(project(tmp_path, text.replace("took", "needs") + end, claim)) == []
    for altered in (text.replace("1,200", "1,300"), text.replace("5.5", "-5.5")):
        [problem] = problems(project(tmp_path, altered + end, claim))
        assert "numbers of the section 'Times' have changed" in problem
    [problem, unclaimed] = problems(project(tmp_path, text.replace("Times", "Time") + end, claim))
    assert problem == "README.md has 0 sections 'Times'; expected one"
    assert unclaimed.startswith("README.md:3: 5.5 has no claim")


def test_measured_figures_are_stale_when_their_code_has_changed(tmp_path: Path) -> None:
    root = project(tmp_path, "It took 5.5 s.")
    (root / "pipeline").write_text("a")

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(root), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "pipeline")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "--short", "HEAD")
    claims = [
        {**MEASURED, "name": "measured", "text": "took {5.5} s", "commit": commit},
        {**MEASURED, "name": "measured", "text": "{5.5} s", "commit": commit, "code": ["other"]},
    ]
    project(root, "It took 5.5 s.", *claims)
    assert list(ledger.stale(root, ledger.load(root))) == []

    (root / "pipeline").write_text("b")
    git("commit", "-qam", "b")
    [stale] = ledger.stale(root, ledger.load(root))
    assert stale.problem.startswith(f"its code has changed in 1 commits since {commit}")


@pytest.mark.parametrize(
    "text",
    [
        "`x = 0.5`",
        "```\nrate: 0.5\n```",
        "[a](docs/1.5.md)",
        "at p < 0.05, and d2l section 9.3",
        "version 1.2.3 of DVC 3.67, at 127.0.0.1, Apache-2.0",
        "`python3` (3.11 or later)",
        "YAML 1.1 and 1.2",
    ],
)
def test_versions_places_and_code_are_no_figures(text: str) -> None:
    assert list(markdown.decimals(text, [])) == []


@pytest.mark.parametrize("figure", ["5.5", "1,234.5", "-0.3", "0.5%", "p 0.031", ".548", "[1.5"])
def test_other_decimals_are_figures(figure: str) -> None:
    assert len(list(markdown.decimals(f"It is\n{figure} here", []))) == 1


def test_update_writes_the_report_s_figures_and_nothing_else(tmp_path: Path) -> None:
    old_table = TABLE.replace("94.00 ± 0.50", "90.00 ± 9.00").replace(
        "| `bayes` | 7", "| `old` | 7"
    )
    text = (
        f"The CNN has 91.00 %\n(91.00 ± 0.20, F1 7% ± 1%).\n\n**Reviews**\n\n{old_table}\n"
        "## Times\n\n5.5 s and 90.00\n"
    )
    section = "## Times\n\n5.5 s and 90.00\n"
    claims = [
        derived("has {91.00} % ({91.00 ± 0.20}, F1 {7% ± 1%})", *["accuracy, %"] * 2, "F1, %"),
        table(),
        quoted("Times", section),
    ]
    root = project(tmp_path, text, *claims)
    assert len(problems(root)) > 2

    changes = ledger_update.update(root)
    assert (root / "README.md").read_text() == (
        "The CNN has 94.00 %\n(94.00 ± 0.50, F1 93.5% ± 0.7%).\n\n**Reviews**\n\n"
        f"{TABLE}\n{section}"
    )
    assert problems(root) == []
    assert (root / "claims.yaml").read_text().startswith("# A comment.\nclaims:\n")
    assert len(changes) == 1
    assert ledger_update.update(root) == []


def test_update_leaves_a_text_that_is_not_in_the_document(tmp_path: Path) -> None:
    root = project(tmp_path, "Nothing.", derived("CNN: {91.00}", "accuracy, %"), table())
    assert ledger_update.update(root) == []
    assert len(problems(root)) == 2


def project_with_picture(root: Path) -> Path:
    """A README with a picture, which is the figure of an earlier report."""
    claim = {
        "name": "image",
        "file": "README.md",
        "image": "docs/images/map.png",
        "figure": "run/map.png",
        "md5": "md5:" + hashlib.md5(b"old").hexdigest(),
        "folder": "1e1.dir",
    }
    project(root, "![A map](docs/images/map.png)\n", claim)
    (root / "docs/images").mkdir(parents=True)
    (root / "docs/images/map.png").write_bytes(b"old")
    lock_figures(root, "1e1.dir")
    return root


def lock_figures(root: Path, md5: str) -> None:
    outputs = [{"path": "reports/figures", "hash": "md5", "md5": md5}]
    lock = {"schema": "2.0", "stages": {"report": {"cmd": "x", "outs": outputs}}}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def test_a_picture_that_is_the_report_s_figure_holds(tmp_path: Path) -> None:
    root = project_with_picture(tmp_path)
    assert problems(root) == []
    (root / "reports/figures/run").mkdir(parents=True)
    (root / "reports/figures/run/map.png").write_bytes(b"old")
    assert problems(root) == []


def test_a_picture_of_an_earlier_report_is_caught_and_update_copies_the_figure(
    tmp_path: Path,
) -> None:
    root = project_with_picture(tmp_path)
    lock_figures(root, "2e2.dir")
    [problem] = problems(root)
    assert problem.startswith("docs/images/map.png is from other figures than those of dvc.lock; ")

    # Without the figure itself nothing is copied.
    assert ledger_update.update(root) == []
    assert problems(root) == [problem]

    (root / "reports/figures/run").mkdir(parents=True)
    (root / "reports/figures/run/map.png").write_bytes(b"new")
    [problem] = problems(root)
    assert problem.startswith("docs/images/map.png is not the present reports/figures/run/map.png")
    assert len(ledger_update.update(root)) == 1
    assert (root / "docs/images/map.png").read_bytes() == b"new"
    assert problems(root) == []


def test_a_picture_that_was_altered_or_is_not_shown_is_caught(tmp_path: Path) -> None:
    root = project_with_picture(tmp_path)
    (root / "docs/images/map.png").write_bytes(b"altered")
    (root / "README.md").write_text("Nothing.\n")
    assert [problem.partition(";")[0] for problem in problems(root)] == [
        "README.md does not show docs/images/map.png",
        "docs/images/map.png is not the picture of claims.yaml",
    ]


def test_record_enters_the_digest_of_the_named_section_alone(tmp_path: Path) -> None:
    text = "## A\n\n1.5\n\n## B\n\n2.5\n"
    root = project(tmp_path, text, quoted("A", ""), quoted("B", ""))
    ledger_update.record(root, ["B"])
    [problem] = problems(root)
    assert "'A' have changed" in problem
    with pytest.raises(UserError, match="--record: got C; expected one of A, B"):
        ledger_update.record(root, ["C"])


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (derived("CNN: {94}", "loss"), r"cnn > loss: got no such setting and column"),
        (derived("CNN: {94}", "loss", setting="rnn"), r"rnn > loss: got no such setting"),
        (derived("CNN: {94}"), "got 1 figures in braces and 0 keys"),
        ({**derived("CNN: {94}", "a"), "file": "NO.md"}, "file: got NO.md; expected a document"),
        ({**derived("CNN: {94}"), "keys": ["a > b > c"]}, "no section 'a' in comparison.md"),
        ({**table(), "report": "Taggers"}, "no section 'Taggers' in comparison.md"),
    ],
)
def test_mistakes_in_the_ledger_are_one_line(tmp_path: Path, claim, message: str) -> None:
    root = project(tmp_path, f"CNN: 94\n\n**Reviews**\n\n{TABLE}", claim)
    with pytest.raises(UserError, match=re.escape(message).replace(r"\ ", " ")) as caught:
        problems(root)
    assert "\n" not in str(caught.value)


def test_the_command_prints_a_line_and_status_2_for_wrong_figures(tmp_path: Path) -> None:
    root = project(tmp_path, "CNN: 49.00", derived("CNN: {49.00}", "accuracy, %"))
    (root / "presets").mkdir()

    def claims(*arguments: str) -> "subprocess.CompletedProcess[str]":
        code = "from pipeline.cli import main; main()"
        command = [sys.executable, "-c", code, "claims", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    wrong = claims()
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("seqline: claims.yaml: 1 problems. README.md says 49.00 for ")
    assert wrong.stderr.count("\n") == 1

    updated = claims("--update")
    assert updated.returncode == 0, updated.stderr
    assert updated.stdout == (
        "updated: README.md: CNN: {49.00} -> CNN: {94.00}\n"
        "1 claims: 1 figures, 0 tables, 0 sections, 0 images; "
        "0 claims are stale, all others hold\n"
    )
