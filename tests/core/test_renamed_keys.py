"""Renamed keys: an old one is refused in one line with its new name, and upgraded in blocks that
older versions of the project wrote."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fast_yaml
import pytest
import stage_runs
import yaml

from pipeline.core import config, renamed_keys
from pipeline.core.errors import UserError
from pipeline.dag import graph

KEYS = sorted(renamed_keys.RENAMED)


def with_old_key(root: Path, old: str) -> str:
    """Rename the first key of the project's settings to its old name; return its dotted path."""
    file = root / ("flow.yaml" if old.startswith("gate.") else "params.yaml")
    content = copy.deepcopy(fast_yaml.load(file.read_text(encoding="utf-8")))
    *parts, name = old.split(".")
    where, holder = next(places(content, parts, renamed_keys.RENAMED[old]))
    holder[name] = holder.pop(renamed_keys.RENAMED[old])
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return ".".join([*where, name])


def places(content: Any, parts: list[str], key: str) -> Iterator[tuple[list[str], dict]]:
    """Mappings with the key at the path `parts`."""
    if not isinstance(content, dict):
        return
    if not parts:
        if key in content:
            yield [], content
        return
    for name in content if parts[0] == "*" else [parts[0]]:
        for where, holder in places(content.get(name), parts[1:], key):
            yield [name, *where], holder


def line(path: str, old: str) -> str:
    new = f"{path.rpartition('.')[0]}.{renamed_keys.RENAMED[old]}"
    return f"{path}: got a key that was renamed; expected its new name, {new}. Rename the key."


@pytest.mark.parametrize("old", KEYS)
def test_check_answers_each_old_key_with_its_new_name(old: str, project: Path, seqline) -> None:
    path = with_old_key(project, old)
    said = seqline(project, "check")
    assert (said.status, said.err) == (2, f"seqline: {line(path, old)}\n")


@pytest.mark.parametrize("command", [["run", "train@rnn-1"], ["retrain"]])
def test_flows_answer_an_old_key_before_dvc_misses_the_new_one(
    command: list[str], project: Path, seqline
) -> None:
    path = with_old_key(project, "runs.*.start")
    said = seqline(project, *command)
    assert (said.status, said.err) == (2, f"seqline: {line(path, 'runs.*.start')}\n")


def test_the_plan_answers_an_old_key(project: Path) -> None:
    path = with_old_key(project, "runs.*.start")
    assert graph.report(project, []) == {"refused": line(path, "runs.*.start")}


def test_a_stage_answers_an_old_key(project: Path) -> None:
    path = with_old_key(project, "runs.*.start")
    with pytest.raises(UserError) as refused:
        stage_runs.run(project, "train", "rnn-1")
    assert str(refused.value) == line(path, "runs.*.start")


@pytest.mark.parametrize("old", [key for key in KEYS if not key.startswith("gate.")])
@pytest.mark.parametrize("name", ["lstm-1", "*"])
def test_set_answers_each_old_key_with_its_new_name(
    old: str, name: str, project: Path, seqline
) -> None:
    before = (project / "params.yaml").read_bytes()
    path = old.replace("*", name)
    said = seqline(project, "use", "default", "--set", f"{path}=null")
    assert (said.status, said.err) == (2, f"seqline: --set {line(path, old)}\n")
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("key", ["model", "objective", "optim", "training", "search"])
def test_a_run_with_keys_of_its_setting_is_answered_with_their_place(
    key: str, project: Path, seqline
) -> None:
    """As in a file of an older version, whose runs had no settings; by any renamed key in it."""
    path = project / "params.yaml"
    content = fast_yaml.load(path.read_text(encoding="utf-8"))
    content["runs"]["lstm-1"][key] = {"block": 32, "noise": 5}
    path.write_text(fast_yaml.dump(content), encoding="utf-8")
    said = seqline(project, "check")
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        f"seqline: runs.lstm-1.{key}: got a key that was moved; expected settings.NAME.{key}, and "
        "`setting: NAME` in the run. Move the run's model, objective, optim, training, search.\n"
    )


def test_a_key_that_was_not_renamed_has_no_new_name() -> None:
    assert renamed_keys.new_name("runs.lstm-1.seed") is None
    assert renamed_keys.new_name("settings.lstm.model.start") is None
    assert renamed_keys.new_name("runs.start") is None


def test_no_old_key_is_a_key_of_today(project: Path) -> None:
    content = {**config.read(project / "params.yaml"), **config.read(project / "flow.yaml")}
    for old, new in renamed_keys.RENAMED.items():
        *parts, name = old.split(".")
        assert list(places(content, parts, name)) == []
        assert list(places(content, parts, new)) != [], old


def test_upgrade_renames_old_keys_and_leaves_the_block_alone() -> None:
    block = {"start": "scratch", "objective": {"block": 16, "noise": 8, "window": 3}, "seed": 1}
    before = copy.deepcopy(block)
    assert renamed_keys.upgrade("runs", block) == {
        "init_from": "scratch",
        "objective": {"block_size": 16, "noise_words": 8, "window": 3},
        "seed": 1,
    }
    assert block == before
    assert renamed_keys.upgrade("corpora", {"bleu": "zh", "read": {"judges": None}}) == {
        "bleu_tokenizer": "zh",
        "read": {"benchmarks": None},
    }
