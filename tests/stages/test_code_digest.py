"""The digest of a training: which code it covers, and what it does not depend on."""

import subprocess
import sys
from pathlib import Path

import pytest
from source_code import ROOT, dag

from pipeline.core import params
from stages import train

NODES = [node for node in dag() if node.module == "stages.train"]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.address)
def test_digest_covers_the_code_that_dvc_yaml_declares(node) -> None:
    run = params.run(ROOT / "params.yaml", node.address.partition("@")[2])
    declared = [dep for dep in node.deps if dep.split("/")[0] in ("pipeline", "stages")]
    assert train.code_deps(run) == declared


@pytest.mark.long
def test_digest_ignores_which_modules_are_imported() -> None:
    name = NODES[0].address.partition("@")[2]
    run = params.run(ROOT / "params.yaml", name)
    program = (
        "from pathlib import Path; from pipeline.core import params; from stages import train;"
        f"print(train.digest(params.run(Path('params.yaml'), {name!r}), []))"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert train.digest(run, []) == fresh.stdout.strip()


def test_digest_changes_with_the_data(tmp_path: Path) -> None:
    run = params.run(ROOT / "params.yaml", NODES[0].address.partition("@")[2])
    (tmp_path / "train.parquet").write_bytes(b"1")
    before = train.digest(run, [tmp_path])
    (tmp_path / "train.parquet").write_bytes(b"2")
    assert train.digest(run, [tmp_path]) != before
