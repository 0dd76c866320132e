"""Keys of a params file, looked up as DVC does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from dvc.dependency import param
from dvc.fs import LocalFileSystem
original = param.read_param_file
from pipeline.dag import dvc_patches
dvc_patches.apply()
assert param.read_param_file is not original
keys = json.loads(sys.argv[2])
found = []
for read in (original, param.read_param_file):
    try:
        found.append(read(LocalFileSystem(), sys.argv[1], keys, flatten=True))
    except ValueError as error:  # a pattern with several values
        found.append(str(error))
assert found[0] == found[1], found
"""
PARAMS = """
runs: {lstm-1: {seed: 1, optim: null, betas: [0.9, 0.999]}, '2': {seed: 3}, 2: {seed: 4}}
evaluation: {test: true}
a.b: {c: 1}
x*: 5
xy: 6
"""


@pytest.mark.parametrize(
    "keys",
    [
        ["runs.lstm-1.seed", "runs.lstm-1.optim", "evaluation"],
        ["runs.lstm-1.betas", "runs.lstm-1.betas.1"],
        ["runs.2.seed"],
        ["evaluation.test", "evaluation.nothing", "nothing.at.all", "evaluation.test.deeper"],
        ["xy", "x*"],
        ["a.b.c"],
        ["runs"],
    ],
)
def test_values_are_those_that_dvc_finds(keys: list[str], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "params.yaml"), json.dumps(keys)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
