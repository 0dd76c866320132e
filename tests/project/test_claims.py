"""The ledger of figures: every claim holds, and an altered one is caught."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.cli import ledger as claims
from pipeline.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ENTRY = {"accuracy": 94.0, "deviation": 0.5, "seeds": 3}


def project(root: Path, text: str, ledger: list[dict[str, object]]) -> Path:
    (root / "reports").mkdir()
    (root / "reports/summary.json").write_text(json.dumps({"reviews": {"cnn": ENTRY}}))
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "README.md").write_text(text)
    (root / "claims.yaml").write_text(yaml.safe_dump({"claims": ledger}))
    return root


def derived(text: str, *keys: str) -> dict[str, object]:
    return {"name": "derived", "file": "README.md", "text": text, "keys": list(keys)}


def problems(root: Path) -> list[str]:
    return [finding.problem for finding in claims.findings(root, claims.load(root))]


def test_every_claim_of_the_project_holds() -> None:
    ledger = claims.load(ROOT)
    assert len(ledger) > 10
    wrong = [f for f in claims.findings(ROOT, ledger) if not f.is_stale]
    assert wrong == []


@pytest.mark.parametrize("figure", ["94.00", "94.0", "93.1", "95.2"])
def test_figures_within_the_interval_of_other_seeds_hold(tmp_path: Path, figure: str) -> None:
    """94 ± 4.303 · 0.5 / √3 is 92.76 to 95.24."""
    root = project(
        tmp_path,
        f"The CNN has {figure} %.",
        [derived(f"CNN has {{{figure}}} %", "reviews.cnn.accuracy")],
    )
    assert problems(root) == []


@pytest.mark.parametrize("figure", ["92.7", "95.3", "49.00"])
def test_figures_outside_of_the_interval_are_wrong(tmp_path: Path, figure: str) -> None:
    root = project(
        tmp_path, f"CNN: {figure}", [derived(f"CNN: {{{figure}}}", "reviews.cnn.accuracy")]
    )
    [problem] = problems(root)
    assert problem.startswith(f"README.md says {figure} for reviews.cnn.accuracy, which is 94")


def test_figure_altered_in_the_document_alone_is_caught(tmp_path: Path) -> None:
    root = project(tmp_path, "CNN: 95.00", [derived("CNN: {94.00}", "reviews.cnn.accuracy")])
    assert problems(root) == ["README.md does not say 'CNN: 94.00'"]


def test_deviation_has_the_interval_of_chi_square(tmp_path: Path) -> None:
    """For 2 degrees of freedom: 0.52 to 6.29 times the value."""
    text = "± 0.27, ± 3.1, ± 0.25"
    root = project(
        tmp_path, text, [derived("± {0.27}, ± {3.1}, ± {0.25}", *["reviews.cnn.deviation"] * 3)]
    )
    [problem] = problems(root)
    assert problem.startswith("README.md says 0.25 ")


def test_mistakes_in_the_ledger_are_one_line(tmp_path: Path) -> None:
    root = project(tmp_path, "CNN: 94", [derived("CNN: {94}", "reviews.rnn.accuracy")])
    with pytest.raises(UserError, match=r"reviews\.rnn\.accuracy: got no such key; expected a key"):
        problems(root)
    (root / "claims.yaml").write_text(yaml.safe_dump({"claims": [derived("CNN: {94}")]}))
    with pytest.raises(UserError, match="got 1 figures in braces and 0 keys"):
        problems(root)
