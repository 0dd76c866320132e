"""`seqline` in a project that a test's stages wrote, and the refusals of its stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stage_runs

from pipeline.core.errors import exit_with

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trial(
    project: Path, seqline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """`seqline` in the project, which the command knows by dvc.yaml and presets/."""
    (project / "presets").mkdir(exist_ok=True)
    (project / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    monkeypatch.setenv("SEQLINE_TRACKING", "off")
    return lambda *words: seqline(project, *words)


def refused(root: Path, capsys: pytest.CaptureFixture[str], stage: str, key: str) -> str:
    """The one line with which the stage refuses a user's mistake."""
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: stage_runs.run(root, stage, key))
    assert end.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line
