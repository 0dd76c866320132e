"""A killed training whose work folder was damaged: one line at most, and the weights of a training
that was never killed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import default_params
import pytest
import stage_runs
import torch
from long_cases import mostly_long

from pipeline.training import loop, resume_state
from stages import train


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path: Path) -> None:
    """One bit, two thirds in: of a state's file, in a tensor."""
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def flip_head(path: Path) -> None:
    """One bit in the middle of the head, which names what follows."""
    content = bytearray(path.read_bytes() or b"\0")
    content[min(100, len(content) // 2)] ^= 1
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("x")


DAMAGES = [empty, truncate, flip, flip_head, Path.unlink, replace_by_folder]
QUICK = [truncate, flip, Path.unlink]  # of `make test`
SPOOLS = "spools"  # in the project's folder, which outlives the work folder
FILES = [
    "state.safetensors",
    "best.safetensors",
    "epoch_1.safetensors",
    "train.arrow",
    "valid.arrow",
    "lock",
    SPOOLS,
]


class Killed(Exception):
    """Stands for a kill."""


def settings(average: int | None) -> dict[str, Any]:
    content = default_params.load()
    content["corpora"] = {"toy_story": content["corpora"]["toy_story"]}
    content["corpora"]["toy_story"]["source"]["builtin"]["sizes"] = {
        "train": 100,
        "valid": 20,
        "test": 20,
    }
    content["compute"] |= {"device": "cpu", "processes": 1}
    content["runs"] = {"rnn": content["runs"]["rnn"]}
    content["runs"]["rnn"]["model"] |= {"embedding": 4, "hidden": 4, "dropout": 0.2}
    content["runs"]["rnn"]["training"] |= {"max_epochs": 2, "average": average}
    content["runs"]["rnn"]["objective"] |= {"batch_size": 8, "steps": 16}
    return content


@pytest.fixture(
    scope="module",
    params=[pytest.param(None, id="best"), pytest.param(2, id="averaged", marks=pytest.mark.long)],
)
def killed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes]:
    """A folder with a training that was killed in its second epoch, and the weights of one that was
    not."""
    root = tmp_path_factory.mktemp("damaged")
    default_params.write(root, settings(request.param))
    stage_runs.run(root, "scratch")
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, "toy_story")
    resume(root)
    weights = (root / "data/models/rnn/model.safetensors").read_bytes()

    def stop(self: loop.Loop, planned: Any, epochs_done: float) -> None:
        if self.progress.epoch == 1 and self.progress.batch == 3:
            self.save()
            raise Killed
        step(self, planned, epochs_done)

    step = loop.Loop.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "step", stop)
        with pytest.raises(Killed):
            resume(root)
    return root, weights


def resume(root: Path) -> None:
    """The train stage with its spool, in this process; nothing follows the spool."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.tracking.live_log._start_follower", lambda *_: None)
        patch.delenv("SEQLINE_TRACKING", raising=False)
        patch.chdir(root)
        patch.setenv("DVC_STAGE", "train@rnn")
        patch.setattr("sys.argv", stage_runs.words("train"))
        train.main()


@pytest.mark.parametrize(
    "damage", mostly_long(DAMAGES, QUICK.__contains__, lambda damage: damage.__name__)
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_work_folder_changes_no_weight(
    name: str,
    damage: Callable[[Path], None],
    killed: tuple[Path, bytes],
    capfd: pytest.CaptureFixture[str],
) -> None:
    root, weights = killed
    (work,) = (root / ".seqline/training").glob("rnn-*")
    spools = root / ".seqline/tracking/spools"
    [target] = spools.iterdir() if name == SPOOLS else [work / name]
    if not target.exists():
        pytest.skip("this training keeps other weights")
    shutil.copytree(work, root / "kept")
    shutil.copytree(spools, root / "kept_spools")
    shutil.rmtree(root / "data/models/rnn", ignore_errors=True)
    damage(target)
    try:
        resume(root)
        assert not work.exists(), "the work folder is cleared away"
    finally:
        shutil.rmtree(work, ignore_errors=True)
        (root / "kept").rename(work)
        shutil.rmtree(spools)
        (root / "kept_spools").rename(spools)
    out, error = capfd.readouterr()
    assert (root / "data/models/rnn/model.safetensors").read_bytes() == weights
    if name.endswith(".safetensors") and (name, damage) != ("state.safetensors", Path.unlink):
        assert (
            f"{name} is {'absent' if damage is Path.unlink else 'damaged'}: the training starts "
            "afresh"
        ) in error
        assert error.count("\n") == 1
    else:
        assert error.count("\n") <= 1, error
        assert ("resuming from step" in out) == (name != "state.safetensors")


def test_a_checksum_covers_facts_names_types_and_bytes() -> None:
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    unlike = [
        ({"a": torch.tensor([1.0, 2.5]), "b": tensors["b"]}, {}),
        ({"b": tensors["a"], "a": tensors["b"]}, {}),
        ({"a": tensors["a"].view(torch.int32), "b": tensors["b"]}, {}),
        ({"a": tensors["a"].view(2, 1), "b": tensors["b"]}, {}),
        ({"a": tensors["a"]}, {}),
        (tensors, {"step": 2}),
    ]
    sums = {
        resume_state.checksum(tensors, {}),
        *(resume_state.checksum(*changed) for changed in unlike),
    }
    assert len(sums) == len(unlike) + 1


def test_a_bit_of_any_byte_of_a_saved_file_counts(tmp_path: Path) -> None:
    """But for spaces that pad its head, which change nothing of what is read."""
    path, tensors = (
        tmp_path / "x.safetensors",
        {"a": torch.tensor([1.5, 2.5]), "b": torch.tensor([7])},
    )
    resume_state.save(path, tensors, {"step": 3})
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            loaded, facts = resume_state.load(path)
        except resume_state.DamagedFile:
            continue
        assert facts == {"step": 3}
        assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
            "a": [1.5, 2.5],
            "b": [7],
        }


def test_weights_damaged_in_training_are_refused_and_training_restarts(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"other")
    (tmp_path / "state.safetensors").write_bytes(b"other")
    unfinished = object.__new__(loop.Loop)
    unfinished.work = tmp_path
    unfinished.config = loop.Config(
        max_epochs=1, patience=None, accumulate=1, average=None, precision="float32", threads=1
    )
    with pytest.raises(
        loop.UserError,
        match=r"best\.safetensors is damaged\. Run again to train from the beginning",
    ):
        unfinished.final_weights()
    assert list(tmp_path.iterdir()) == []
