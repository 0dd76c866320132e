"""Names of runs from users."""

from pathlib import Path
from typing import Any

from pipeline.runs import names


def test_a_setting_given_as_run_is_its_first_run(project: Path) -> None:
    assert names.run_of(project, "lstm", "--run") == "lstm-1"
    assert names.run_of(project, "lstm-3", "--run") == "lstm-3"


def test_a_run_takes_precedence_over_a_setting_of_its_name(project: Path, edited: Any) -> None:
    edited(project, "runs.lstm", names.blocks(project)["gru-2"] | {"seed": 9})
    assert names.run_of(project, "lstm", "--run") == "lstm"
    assert "lstm" not in names.setting_names(project)
