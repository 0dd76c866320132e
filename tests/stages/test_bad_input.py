"""What the stages answer to bad input: exit status 2, one line that says what to do, and nothing
half-written.

Mistakes in params.yaml are in test_config.py, in a corpus's files one by one in test_corpora.py and
test_download.py."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import default_params
import fast_yaml
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stage_runs
import torch
from safetensors.torch import load_file, save_file

from pipeline.core import tables
from pipeline.core.errors import UserError, exit_with

ROOT = Path(__file__).resolve().parents[2]
CORPUS, RUN = "toy_en_fr", "transformer"
KEY = {
    "download": CORPUS,
    "tokenize": CORPUS,
    "vocab": CORPUS,
    "encode": CORPUS,
    "scratch": "",
    "report": "",
}
STAGES = (
    "download",
    "tokenize",
    "vocab",
    "encode",
    "scratch",
    "train",
    "predict",
    "evaluate",
    "report",
)
Stage = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project on which every stage has run."""
    root = tmp_path_factory.mktemp("made")
    content = default_params.load()
    content["corpora"] = {name: content["corpora"][name] for name in (CORPUS, "toy_story")}
    for corpus in content["corpora"].values():
        sizes = corpus["source"]["builtin"]["sizes"]
        corpus["source"]["builtin"]["sizes"] = dict.fromkeys(sizes, 40)
    content["runs"] = {RUN: content["runs"][RUN]}
    content["runs"][RUN]["training"]["max_epochs"] = 1
    content["runs"][RUN]["model"] |= {"width": 32, "heads": 4, "feed_forward": 64}
    content["runs"][RUN]["search"]["max_length"] = 8
    content["evaluation"]["bootstrap"] = 20
    default_params.write(root, content)
    for name in STAGES:
        stage_runs.run(root, name, KEY.get(name, RUN))
    stage_runs.run(root, "download", "toy_story")
    return root


@pytest.fixture
def stage(
    finished_project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Stage:
    """`stage("train")`: the stage's `cmd` in dvc.yaml, in this process, in a copy of `made`, once
    what it had written is removed, as DVC does; its exit status and what it said on stderr."""
    root = shutil.copytree(finished_project, tmp_path / "project")
    monkeypatch.chdir(root)

    def run(name: str, key: str = "") -> tuple[int, str]:
        key = key or KEY.get(name, RUN)
        for path in stage_runs.outs(root, name, key):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        capsys.readouterr()
        try:
            exit_with(lambda: stage_runs.run(root, name, key))
        except SystemExit as end:
            for path in stage_runs.outs(root, name, key):
                assert not path.exists() or held(path) == held(
                    finished_project / path.relative_to(root)
                ), f"{path} is half-written"
            assert not list(root.rglob("*.partial"))
            return int(end.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def held(path: Path) -> dict[str, bytes]:
    """The file, or all that the folder holds."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def set_param(dotted: str, value: object) -> None:
    content = fast_yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    *above, last = dotted.split(".")
    here = content
    for key in above:
        here = here[key]
    here[last] = value
    Path("params.yaml").write_text(fast_yaml.dump(content), encoding="utf-8")


def refused(said: tuple[int, str], *parts: str) -> None:
    status, err = said
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("seqline: ")
    for part in parts:
        assert part in err, err


def test_a_device_that_is_not_there(stage: Stage) -> None:
    set_param("compute.device", "cuda:7")
    for name in ("train", "predict"):
        refused(
            stage(name),
            "compute.device: got cuda:7; expected a device of this machine. Use auto or cpu.",
        )


def test_heads_that_do_not_divide_the_width(stage: Stage) -> None:
    set_param(f"settings.{RUN}.model.heads", 3)
    refused(
        stage("train"),
        f"settings.{RUN}.model.heads: got 3 with width 32; expected a divisor of width",
    )


# A corpus's files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "train.en",
            b"caf\xe9 .\n" * 40,
            "got byte 0xe9 at offset 3, line 1; expected UTF-8. Convert the file",
        ),
        (
            "train.fr",
            b"un .\n" * 39,
            "got 39 lines; expected 40 lines, as train.en has. Parallel files must agree",
        ),
        ("valid.en", b"", "got an empty file; expected at least one line."),
        ("valid.en", None, "got no such file; expected one of "),
    ],
)
def test_a_corpus_s_file_that_cannot_be_read(
    stage: Stage, name: str, content: bytes | None, said: str
) -> None:
    path = Path(f"data/raw/{CORPUS}/{name}")
    path.unlink() if content is None else path.write_bytes(content)
    refused(stage("tokenize"), f"seqline: {path}: {said}")


def test_a_split_that_is_left_without_rows(stage: Stage) -> None:
    for side in ("en", "fr"):
        Path(f"data/raw/{CORPUS}/valid.{side}").write_text("\n" * 40)
    refused(
        stage("tokenize"),
        (
            f"corpora.{CORPUS}.read: got no usable row for valid (0 rejected); expected at least "
            "one in"
        ),
    )


# Tables


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tokenize", "data/raw/toy_story/train.parquet"),
        ("vocab", f"data/tokens/{CORPUS}/train.parquet"),
        ("encode", f"data/tokens/{CORPUS}/test.parquet"),
        ("encode", f"data/vocab/{CORPUS}/source.parquet"),
        ("train", f"data/encoded/{CORPUS}/valid.parquet"),
        ("predict", f"data/encoded/{CORPUS}/test.parquet"),
        ("evaluate", f"data/tokens/{CORPUS}/test.parquet"),
        ("evaluate", f"data/predictions/{RUN}/hypotheses_test.parquet"),
        ("evaluate", f"data/models/{RUN}/history.parquet"),
        ("report", f"data/scores/{RUN}/test.parquet"),
        ("report", f"data/predictions/{RUN}/samples.parquet"),
    ],
)
def test_a_parquet_file_with_another_schema(stage: Stage, name: str, path: str) -> None:
    assert Path(path).exists()
    pq.write_table(pa.table({"number": [0], "words": [["a"]]}), path)
    key = "toy_story" if "toy_story" in path else ""
    refused(
        stage(name, key),
        path,
        "got columns number int64, words list",
        "; expected columns ",
        "dvc repro",
    )


def damaged(content: bytes) -> dict[str, bytes]:
    """No Parquet at all, and one that stops being it in its middle, in its description and at its
    end."""
    at = {"page": 8, "footer": len(content) - int.from_bytes(content[-8:-4], "little") - 4}
    found = {
        name: content[:begin] + b"\xff" * 40 + content[begin + 40 :] for name, begin in at.items()
    }
    return found | {"text": b"not a table", "nothing": b"", "half": content[: len(content) // 2]}


@pytest.mark.parametrize("kind", sorted(damaged(b"")))
def test_a_damaged_parquet_file(stage: Stage, kind: str) -> None:
    for name, path in (
        ("vocab", Path(f"data/tokens/{CORPUS}/train.parquet")),
        ("train", Path(f"data/encoded/{CORPUS}/train.parquet")),
        ("report", Path(f"data/scores/{RUN}/test.parquet")),
    ):
        content = path.read_bytes()
        path.write_bytes(damaged(content)[kind])
        refused(
            stage(name),
            f"seqline: {path}: got ",
            "; expected a Parquet file. Delete it and run `dvc repro`.",
        )
        path.write_bytes(content)


# Outputs that are damaged and can still be read


def rewritten(path: str, change: Callable[[dict[str, list[object]]], None]) -> None:
    """The Parquet file with its columns changed."""
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    tables.write(Path(path), pa.table(columns, schema=table.schema))


def other_id(number: int) -> Callable[[dict[str, list[object]]], None]:
    def change(columns: dict[str, list[object]]) -> None:
        columns["source"][3] = [number]

    return change


def swapped(column: str) -> Callable[[dict[str, list[object]]], None]:
    def change(columns: dict[str, list[object]]) -> None:
        columns[column][:2] = columns[column][1::-1]

    return change


def without_last(columns: dict[str, list[object]]) -> None:
    for values in columns.values():
        values.pop()


def lost(column: str) -> Callable[[dict[str, list[object]]], None]:
    def change(columns: dict[str, list[object]]) -> None:
        columns[column][5] = None

    return change


def doubled(columns: dict[str, list[object]]) -> None:
    columns["token"][6] = columns["token"][5]


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            "encoded",
            other_id(100_000),
            "got the id 100000 in the column source; expected ids from 0 to ",
        ),
        ("encoded", other_id(-1), "got the id -1 in the column source; expected ids from 0 to "),
        ("encoded", lost("target"), "got rows without target; expected target in every row."),
        ("encoded", swapped("row"), "got rows out of order; expected the rows 0 to 39."),
    ],
)
def test_ids_that_the_vocabulary_does_not_have_are_not_trained_on(
    stage: Stage, file: str, change, said: str
) -> None:
    for name, split in (("predict", "test"), ("train", "train"), ("train", "valid")):
        path = f"data/{file}/{CORPUS}/{split}.parquet"
        before = Path(path).read_bytes()
        rewritten(path, change)
        refused(stage(name), f"seqline: {path}: {said}", "`dvc repro -f`")
        Path(path).write_bytes(before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_last, "ids; expected"),
        (swapped("id"), "got ids out of order; expected the ids 0 to "),
        (
            swapped("token"),
            (
                "got tokens missing, doubled or out of place; expected each token once, special "
                "ones first."
            ),
        ),
        (lost("token"), "got tokens missing, doubled or out of place; expected "),
        (doubled, "got tokens missing, doubled or out of place; expected "),
    ],
)
def test_modified_vocabulary_is_refused(stage: Stage, change, said: str) -> None:
    path = f"data/vocab/{CORPUS}/source.parquet"
    rewritten(path, change)
    for name in ("encode", "predict"):
        refused(stage(name), f"seqline: {path}: ", said, "`dvc repro -f`")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got Expecting value"),
        (b"{", "got Expecting property name"),
        (b"[]", "got list; expected what the vocab stage writes: a mapping."),
        (b"\xff{}", "got 'utf-8' codec can't decode"),
        (b"[" * 100_000, "got maximum recursion depth exceeded"),
        (None, "got no such file"),
        ("folder", "got a folder; expected what the vocab stage writes."),
    ],
)
def test_a_damaged_description_of_a_vocabulary(
    stage: Stage, content: bytes | str | None, said: str
) -> None:
    path = Path(f"data/vocab/{CORPUS}/vocab.json")
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    for name in ("train", "encode"):
        refused(stage(name), f"seqline: {path}", said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "got Expecting value"),
        ("[1]", "got list; expected the limits of a built-in corpus: a mapping."),
        ('{"test": 3}', "got test: 3; expected a number for each score of each split."),
        (
            '{"test": {"bleu": "high"}}',
            "got test: {'bleu': 'high'}; expected a number for each score of each split.",
        ),
        (
            '{"test": {"bleu": null}}',
            "got test: {'bleu': None}; expected a number for each score of each split.",
        ),
    ],
)
def test_damaged_limits(stage: Stage, content: str, said: str) -> None:
    path = Path(f"data/tokens/{CORPUS}/limits.json")
    path.write_text(content)
    refused(stage("evaluate"), f"seqline: {path}: {said}", "dvc repro")


# A model


def test_weights_that_do_not_fit_their_config(stage: Stage) -> None:
    folder = Path(f"data/models/{RUN}")
    facts = json.loads((folder / "config.json").read_text())
    facts["run"]["model"]["feed_forward"] = 96
    (folder / "config.json").write_text(json.dumps(facts))
    refused(
        stage("predict"),
        "model.safetensors: decoder.0.feed_forward.layers.0.bias: got (64,); expected (96,)",
    )
    facts["run"]["model"]["feed_forward"] = 64
    (folder / "config.json").write_text(json.dumps(facts))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"spare": torch.zeros(1)}, folder / "model.safetensors")
    refused(stage("predict"), "spare: got (1,); expected nothing")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    refused(stage("predict"), "model.safetensors", "expected weights in safetensors form")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": ...}, "got no 'run.family'; expected what the train stage writes."),
        (
            {"run": {"family": "transformer"}},
            "got no 'run.model'; expected what the train stage writes.",
        ),
        ({"sizes": ...}, "got no 'sizes.source'; expected what the train stage writes."),
        ({"sizes": {"source": 40}}, "got no 'sizes.target'; expected what the train stage writes."),
        ({"sizes": [1, 2]}, "got no 'sizes.source'; expected what the train stage writes."),
        ("{", "got Expecting property name"),
        ("[]", "got list; expected a trained model: a mapping."),
    ],
)
def test_model_config_without_required_keys_is_refused(
    stage: Stage, change: dict[str, object] | str, said: str
) -> None:
    path = Path(f"data/models/{RUN}/config.json")
    if isinstance(change, str):
        path.write_text(change)
    else:
        facts = json.loads(path.read_text()) | change
        path.write_text(
            json.dumps({key: value for key, value in facts.items() if value is not ...})
        )
    refused(stage("predict"), f"seqline: {path}: ", said, "Run `dvc repro`")


def test_an_earlier_stage_that_has_not_run(stage: Stage) -> None:
    for folder in ("data", "reports"):
        shutil.rmtree(folder)
    refused(stage("tokenize"), "data/raw", "dvc repro")
    refused(stage("vocab"), f"data/tokens/{CORPUS}/train.parquet: got no such file", "dvc repro")
    refused(stage("encode"), f"data/vocab/{CORPUS}", "no such file")
    refused(stage("train"), "no such file", "dvc repro")
    refused(stage("predict"), f"data/vocab/{CORPUS}: got no such vocabulary", "dvc repro")
    refused(
        stage("evaluate"),
        f"data/tokens/{CORPUS}: got the splits none; expected a test split",
        "dvc repro",
    )
    refused(stage("report"), f"reports/metrics/{RUN}.json: got no such file", "dvc repro")


# A full disk


@contextmanager
def room_for_files_of(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the write that would make it refuses, as on a full
    disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "large", "told"),
    [
        ("download", f"data/raw/{CORPUS}/train.en", f"data/raw/{CORPUS}"),
        ("tokenize", f"data/tokens/{CORPUS}/train.parquet", f"data/tokens/{CORPUS}"),
        ("vocab", f"data/vocab/{CORPUS}/source.parquet", f"data/vocab/{CORPUS}"),
        ("encode", f"data/encoded/{CORPUS}/train.parquet", f"data/encoded/{CORPUS}"),
        ("scratch", "data/models/scratch/config.json", "data/models/scratch"),
        ("train", f"data/encoded/{CORPUS}/train.parquet", "/train.arrow"),
        ("train", f"data/models/{RUN}/model.safetensors", "/best.safetensors"),
        ("predict", f"data/predictions/{RUN}/likelihood_test.parquet", f"data/predictions/{RUN}"),
        ("evaluate", f"data/scores/{RUN}/test.parquet", f"data/scores/{RUN}"),
        ("report", f"reports/figures/by_length_translation_{CORPUS}.png", "reports/figures"),
        ("report", "reports/index.html", "reports/index.html"),
    ],
)
def test_a_file_that_may_not_grow_is_named_and_nothing_is_left(
    stage: Stage, name: str, large: str, told: str
) -> None:
    with room_for_files_of(Path(large).stat().st_size - 1):
        said = stage(name)
    refused(said, f"{told}: got a file beyond the size allowed; expected room to write.")
    if name in ("download", "train"):  # which keep what they have for the next time
        assert stage(name)[0] == 0


FULL = """
import contextlib, io, json, subprocess, sys
from pathlib import Path
import stage_runs
from pipeline.core.errors import exit_with

found = {}
for stage, (key, place, size) in json.loads(sys.argv[1]).items():
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    said, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(said):
            exit_with(lambda: stage_runs.run(Path.cwd(), stage, key))
    except SystemExit as end:
        status = end.code
    partial = [path.name for path in Path(place).rglob("*") if path.suffix == ".partial"]
    found[stage] = [status, said.getvalue(), partial]
    found[stage].append(Path(place, key).exists() and stage != "train")
    subprocess.run(["umount", place], check=True)
print(json.dumps(found))
"""


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("unshare") is None, reason="needs unshare, to mount a small disk of its own"
)
def test_a_full_disk(finished_project: Path, tmp_path: Path) -> None:
    """A real one, for every stage whose outputs have a folder to themselves."""
    root = shutil.copytree(finished_project, tmp_path / "project")
    places = {
        "download": "data/raw",
        "tokenize": "data/tokens",
        "vocab": "data/vocab",
        "encode": "data/encoded",
    }
    places |= {
        "predict": "data/predictions",
        "evaluate": "data/scores",
        "train": ".seqline/training",
    }
    asked = {
        name: (KEY.get(name, RUN), place, "64k" if name == "train" else "4k")
        for name, place in places.items()
    }
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            sys.executable,
            "-c",
            FULL,
            json.dumps(asked),
        ],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/helpers'}"},
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this system lets no user mount a disk of its own")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == places.keys()
    for name, (status, err, half, there) in found.items():
        where = "best.safetensors" if name == "train" else f"{places[name]}/{KEY.get(name, RUN)}"
        refused(
            (status, err),
            f"{where}: got a full disk; expected room to write. Free some space and run again.",
        )
        assert (half, there) == ([], False)


def test_full_disk_during_copy_names_the_destination(tmp_path: Path, capsys) -> None:
    (tmp_path / "here").write_bytes(b"x" * 100)
    with pytest.raises(SystemExit), room_for_files_of(10):
        exit_with(lambda: shutil.copyfile(tmp_path / "here", tmp_path / "there"))
    assert capsys.readouterr().err.startswith(
        f"seqline: {tmp_path / 'there'}: got a file beyond the size allowed; "
    )


@pytest.mark.parametrize("column", ["row", "nats", "count"])
def test_a_table_without_a_value_that_every_row_has_is_refused(column: str, tmp_path: Path) -> None:
    path, row = tmp_path / "likelihood.parquet", {"row": 0, "nats": 1.5, "count": 3}
    tables.write(path, pa.Table.from_pylist([row, row | {column: None}], tables.LIKELIHOOD))
    with pytest.raises(UserError) as refusal:
        tables.read(path, tables.LIKELIHOOD)
    assert str(refusal.value) == (
        f"{path}: got 1 rows without {column}; expected {column} in each row. Delete it and run "
        "`dvc repro`."
    )


def test_a_table_of_scrambled_bytes_is_read_or_refused(tmp_path: Path) -> None:
    """Whatever is wrong with a file, reading it ends in a table or in a user's mistake: Arrow has
    many words for it."""
    rows = [
        {"split": f"train{i}", "reason": "too long", "text": f"the cat number {i}"}
        for i in range(200)
    ]
    path = tmp_path / "table.parquet"
    tables.write(path, pa.Table.from_pylist(rows, tables.REJECTS))
    content, refusals = path.read_bytes(), []
    for at in range(4, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        for read in (tables.read, tables.schema):
            try:
                read(path, tables.REJECTS)
            except UserError as error:
                refusals.append(str(error))
    assert len(refusals) > 10
    assert all(line.startswith(f"{path}: got ") and "\n" not in line for line in refusals)
