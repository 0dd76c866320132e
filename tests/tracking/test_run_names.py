"""Names that tell settings apart by what differs from the committed params.yaml."""

import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking import run_names

COMMITTED: dict[str, Any] = {
    "corpora": {
        "toy": {"limit": None, "text": {"level": "word"}, "samples": [], "bleu_tokenizer": "auto"}
    },
    "settings": {
        "transformer": {
            "model": {"heads": 4, "width": 96, "encoder": {"layers": 2}, "decoder": {"layers": 2}},
            "optim": {"name": "adam", "schedule": {"name": "cosine"}, "betas": [0.9, 0.98]},
            "training": {"average": None},
            "search": {"method": "beam", "width": 4},
        }
    },
    "runs": {
        "transformer-1": {
            "setting": "transformer",
            "family": "transformer",
            "task": "translation",
            "corpus": "toy",
            "seed": 1,
            "init_from": "scratch",
        }
    },
}


def label(run: str = "transformer-1", **changes: Any) -> str:
    """The label after changes of values by dotted key of params.yaml, as of `dvc exp run -S`."""
    content = deepcopy(COMMITTED)
    for key, value in changes.items():
        section: Any = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section[parent]
        section[last] = value
    entry = content["runs"].get(run) or {**content["runs"]["transformer-1"], "seed": 9}
    block = {**content["settings"][entry["setting"]], **entry}
    return run_names.label(run, block, content["corpora"][entry["corpus"]], COMMITTED)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("settings.transformer.model.heads", 8, "heads=8"),
        ("settings.transformer.model.encoder.layers", 3, "encoder.layers=3"),
        ("settings.transformer.optim.name", "sgd", "optim.name=sgd"),
        ("settings.transformer.optim.betas", [0.9, 0.999], "betas=[0.9, 0.999]"),
        ("settings.transformer.training.average", 5, "average=5"),
        ("settings.transformer.training.average", {"last": 5}, "last=5"),
        ("corpora.toy.text.level", "bpe", "level=bpe"),
        ("corpora.toy.limit", 1000, "limit=1000"),
        ("runs.transformer-1.seed", 7, "seed=7"),
        # Training reads none of these.
        ("settings.transformer.search.width", 8, ""),
        ("corpora.toy.samples", [{"prompt": "a"}], ""),
        ("corpora.toy.bleu_tokenizer", "13a", ""),
    ],
)
def test_a_label_is_the_shortest_name_of_what_differs(key: str, value: Any, expected: str) -> None:
    assert label(**{key: value}) == expected


def test_an_unchanged_run_has_no_label_and_a_further_seed_neither() -> None:
    assert label() == ""
    assert label("transformer-9") == ""
    assert label("transformer-9", **{"settings.transformer.model.heads": 8}) == "heads=8"


def test_without_a_committed_setting_there_is_no_label() -> None:
    block = {"setting": "new", "corpus": "toy", "model": {"heads": 8}}
    for committed in ({}, COMMITTED, {"runs": 1, "settings": [], "corpora": None}):
        assert run_names.label("new-1", block, {}, committed) == ""


@pytest.mark.parametrize("score", ["", "95.38", "0.942", "-1.00", "inf", "nan"])
@pytest.mark.parametrize("name", ["lstm-1", "lstm-1 joint= · ", "3-gram joint= · ", "a b=2"])
def test_a_score_before_a_name_is_replaced_and_taken_off(name: str, score: str) -> None:
    shown = run_names.with_score(name, score)
    assert shown.startswith(score)
    assert shown.endswith(name)
    assert run_names.without_score(shown) == name
    assert run_names.with_score(shown, "4.00") == f"4.00 · {name}"
    assert run_names.with_score(shown, "") == name


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("lstm", True),
        ("4.25 · lstm", True),
        ("lstm hidden=512 width=8 +3", True),
        ("4.25 · lstm 0a1b2c3d", True),
        ("lstm so far", False),
        ("lstm (final)", False),
        ("lstm-1", False),
        ("0.5 · lstm dropout", False),
        ("the best", False),
    ],
)
def test_names_that_seqline_gave_are_known_from_others(name: str, given: bool) -> None:
    assert run_names.is_generated(name, "lstm") == given


def test_two_values_of_a_grid_have_two_names() -> None:
    names = {label(**{"settings.transformer.model.heads": heads}) for heads in (1, 2, 8, 16)}
    assert len(names) == 4


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), min_size=1))
def test_short_names_are_ends_that_no_other_key_has(keys: set[str]) -> None:
    names = run_names._short_names(keys)
    assert set(names) == keys
    assert len(set(names.values())) == len(keys)
    for key, name in names.items():
        assert f".{key}".endswith(f".{name}")
        keys_with_name = [item for item in keys if f".{item}".endswith(f".{name}")]
        assert name == key or keys_with_name == [key]


def test_what_does_not_fit_is_counted() -> None:
    values = {f"a_long_key_{n}": str(n) for n in range(9)}
    shown = run_names.differences(values, {})
    assert shown.endswith(" +5")
    assert len(shown) < 70


def test_committed_params_are_those_of_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In DVC's copy of an experiment HEAD may be another commit."""
    monkeypatch.delenv("DVC_EXP_BASELINE_REV", raising=False)
    assert run_names.committed_params(tmp_path) == {}

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    for heads in (4, 8):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"heads": heads}))
        git("add", "params.yaml")
        git("commit", "-qm", str(heads))
    assert run_names.committed_params(tmp_path) == {"heads": 8}
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", git("rev-parse", "HEAD~1"))
    assert run_names.committed_params(tmp_path) == {"heads": 4}
    assert run_names.committed_params(tmp_path, "HEAD") == {"heads": 8}
