"""What the stages answer to bad input: exit status 2, one line that says what to do, and nothing half-written.

Mistakes in params.yaml are in test_config.py, in a corpus's files in test_corpora.py and test_download.py.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stage_runs
import torch
import yaml
from safetensors.torch import load_file, save_file

from pipeline.errors import exit_with

ROOT = Path(__file__).resolve().parent.parent
CORPUS, RUN = "toy_en_fr", "transformer"
DATA = ("download", "tokenize", "vocab", "encode")
Stage = Callable[..., tuple[int, str]]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stage:
    """`stage("train")`: the stage's `cmd` in dvc.yaml, in this process; its exit status and what it said on stderr."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    sizes = content["corpora"][CORPUS]["source"]["builtin"]["sizes"]
    content["corpora"][CORPUS]["source"]["builtin"]["sizes"] = dict.fromkeys(sizes, 40)
    content["runs"][RUN]["training"]["max_epochs"] = 1
    content["runs"][RUN]["model"] |= {"width": 32, "heads": 4, "feed_forward": 64}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQLINE_TRACKING", "off")

    def run(name: str) -> tuple[int, str]:
        capsys.readouterr()
        try:
            exit_with(lambda: stage_runs.run(tmp_path, name, CORPUS if name in DATA else RUN))
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def until(stage: Stage, last: str) -> None:
    for name in ("download", "tokenize", "vocab", "encode", "scratch", "train"):
        assert stage(name)[0] == 0
        if name == last:
            return


def set_param(dotted: str, value: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    *above, last = dotted.split(".")
    here = content
    for key in above:
        here = here[key]
    here[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def refused(said: tuple[int, str], *parts: str) -> None:
    status, err = said
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("seqline: ")
    for part in parts:
        assert part in err, err


def leftovers() -> list[Path]:
    return [path for path in Path("data").rglob("*") if path.name.endswith(".partial")]


def test_a_device_that_is_not_there(stage: Stage) -> None:
    until(stage, "scratch")
    set_param("compute.device", "cuda:7")
    refused(stage("train"), "compute.device: got cuda:7; expected a device of this machine. Use auto or cpu.")
    assert not Path(f"data/models/{RUN}").exists()


def test_heads_that_do_not_divide_the_width(stage: Stage) -> None:
    until(stage, "scratch")
    set_param(f"runs.{RUN}.model.heads", 3)
    refused(stage("train"), f"runs.{RUN}.model.heads: got 3 with width 32; expected a divisor of width")
    assert not Path(f"data/models/{RUN}").exists()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vocab", f"data/tokens/{CORPUS}/train.parquet"),
        ("encode", f"data/tokens/{CORPUS}/test.parquet"),
        ("train", f"data/encoded/{CORPUS}/valid.parquet"),
    ],
)
def test_a_parquet_file_with_another_schema(stage: Stage, name: str, path: str) -> None:
    until(stage, {"vocab": "tokenize", "encode": "vocab", "train": "scratch"}[name])
    pq.write_table(pa.table({"row": [0], "words": [["a"]]}), path)
    refused(stage(name), path, "got columns row int64, words list", "expected columns row int64", "dvc repro")
    assert not leftovers()


def test_a_file_that_is_no_parquet(stage: Stage) -> None:
    until(stage, "scratch")
    Path(f"data/encoded/{CORPUS}/train.parquet").write_bytes(b"not a table")
    refused(stage("train"), f"data/encoded/{CORPUS}/train.parquet", "expected a Parquet file", "dvc repro")


def test_weights_that_do_not_fit_their_config(stage: Stage) -> None:
    until(stage, "train")
    folder = Path(f"data/models/{RUN}")
    facts = json.loads((folder / "config.json").read_text())
    facts["run"]["model"]["feed_forward"] = 96
    (folder / "config.json").write_text(json.dumps(facts))
    refused(stage("predict"), "model.safetensors: decoder.0.feed_forward.layers.0.bias: got (64,); expected (96,)")
    facts["run"]["model"]["feed_forward"] = 64
    (folder / "config.json").write_text(json.dumps(facts))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"spare": torch.zeros(1)}, folder / "model.safetensors")
    refused(stage("predict"), "spare: got (1,); expected nothing")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    refused(stage("predict"), "model.safetensors", "expected weights in safetensors form")
    assert not Path("data/predictions").exists() or not leftovers()


def test_an_earlier_stage_that_has_not_run(stage: Stage) -> None:
    refused(stage("tokenize"), "data/raw", "dvc repro")
    refused(stage("evaluate"), "no such file", "dvc repro")
    assert not list(Path().rglob("*.partial"))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, to mount a small disk of its own")
@pytest.mark.parametrize("room", ["64k", "300k"])
def test_a_full_disk(stage: Stage, tmp_path: Path, room: str) -> None:
    (tmp_path / "data").mkdir()
    set_param(f"corpora.{CORPUS}.source.builtin.sizes.train", 20000)
    command = f"python -m stages.download {CORPUS} --params params.yaml --out data/raw/{CORPUS} --work data/work"
    script = (
        f"mount -t tmpfs -o size={room} none data && {command}; echo status $?; find data -name '*.partial' -o -name raw"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this system lets no user mount a disk of its own")
    assert "status 2" in done.stdout
    assert "partial" not in done.stdout
    refused((2, done.stderr), "got a full disk; expected room to write. Free some space and run again.")


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
