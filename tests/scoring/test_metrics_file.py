"""Every reader of a metrics file refuses a file that was cut off, in one line."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.core.errors import UserError
from pipeline.promotion import select
from pipeline.scoring import metrics_file
from pipeline.tracking import versions


@pytest.mark.parametrize("content", ["", '{"test": {"perpl', "[]", "null", '"text"'])
def test_a_damaged_metrics_file_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "lstm.json"
    path.write_text(content)
    run = SimpleNamespace(run="lstm", outs=["metrics/lstm.json"], task="language_model")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/lstm.json").write_text(content)
    for read in (
        lambda: metrics_file.read(path),
        lambda: select.load_metrics(tmp_path, ["lstm"]),
        lambda: versions.score_line(tmp_path, run),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match=r"lstm\.json: got ") as error:
            read()
        assert "\n" not in str(error.value)
        assert "Run `dvc repro -f evaluate@lstm`." in str(error.value)
