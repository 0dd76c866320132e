"""Versions and champions in a real registry: what makes a version, whence it came, and who is
champion whatever befell."""

import hashlib
import json
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import default_params
import pyarrow as pa
import pytest
import yaml
from conftest import ROOT
from long_cases import mostly_long
from mlflow import MlflowClient
from tracking_project import all_runs

from pipeline import tracking
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.flow import challenge
from pipeline.tracking import artifacts, describe, mlflow_store, registry, versions

STORY, REVIEWS = "language_model-story", "classification-reviews"
PLACES = {
    "download": "data/raw/{corpus}",
    "tokenize": "data/tokens/{corpus}",
    "vocab": "data/vocab/{corpus}",
    "encode": "data/encoded/{corpus}",
    "train": "data/models/{run}",
    "predict": "data/predictions/{run}",
    "evaluate": "data/scores/{run}",
}
USED = {"train": ("encode", "vocab"), "evaluate": ("tokenize", "train", "predict")}
RUNS = {
    "lstm": ("language_model", "story"),
    "gru": ("language_model", "story"),
    "mlp": ("classification", "reviews"),
}
CODE = "pipeline/models/recurrent_lm.py"


def md5(*words: object) -> str:
    return hashlib.md5(repr(words).encode()).hexdigest() + ".dir"


class Project:
    """The files that the DAG would leave, every hash of them chosen: `stand[stage, run or corpus]`
    is its outs' age."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stand: dict[tuple[str, str], int] = {}
        self.search = {"method": "greedy", "max_length": 8}
        corpora = {
            name: {
                "text": {"lowercase": False},
                "samples": [{"prompt": f"a {name}", "reference": None}],
            }
            for name in ("story", "reviews")
        }
        runs = {run: {"task": task, "corpus": corpus} for run, (task, corpus) in RUNS.items()}
        default_params.write(root, {"corpora": corpora, "runs": runs})
        shutil.copy(ROOT / "dvc.yaml", root)
        (root / "presets").mkdir()
        for run, (task, corpus) in RUNS.items():
            self._outputs(run, task, corpus)
        self.lock()

    def _outputs(self, run: str, task: str, corpus: str) -> None:
        folder = self.root / "data/models" / run
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "run": {"task": task, "corpus": corpus},
            "digest": f"{run}{self.stand.get(('train', run), 0)}",
        }
        (folder / "config.json").write_text(json.dumps(facts))
        rows = [{"step": 1, "epoch": 0, "name": "train/loss", "value": 1.0}]
        tables.write(folder / "history.parquet", pa.Table.from_pylist(rows, tables.HISTORY))
        score = {"score": 4.25, "low": 4.0, "high": 4.5}
        (self.root / "reports/metrics").mkdir(parents=True, exist_ok=True)
        metrics = {"test": {"perplexity": score, "accuracy": score}}
        (self.root / f"reports/metrics/{run}.json").write_text(json.dumps(metrics))

    def out(self, stage: str, run: str) -> dict[str, str]:
        name = run if stage in ("train", "predict", "evaluate") else RUNS[run][1]
        path = PLACES[stage].format(run=run, corpus=RUNS[run][1])
        return {"path": path, "md5": md5(stage, name, self.stand.get((stage, name), 0))}

    def lock(self) -> None:
        stages: dict[str, Any] = {}
        for run, (task, corpus) in RUNS.items():
            for stage in PLACES:
                key = run if stage in ("train", "predict", "evaluate") else corpus
                stages[f"{stage}@{key}"] = {
                    "outs": [self.out(stage, run)],
                    "deps": [self.out(used, run) for used in USED.get(stage, ())],
                }
            block = {
                "setting": run,
                "family": "recurrent_lm",
                "task": task,
                "corpus": corpus,
            }
            stages[f"train@{run}"]["deps"].append({"path": CODE, "md5": f"{3:032x}"})
            stages[f"train@{run}"]["params"] = {
                "params.yaml": {
                    **{f"runs.{run}.{key}": part for key, part in block.items()},
                    f"settings.{run}.model": {"hidden": 8},
                }
            }
            stages[f"predict@{run}"]["params"] = {
                "params.yaml": {
                    f"runs.{run}.setting": run,
                    f"settings.{run}.search": self.search,
                }
            }
            stages[f"evaluate@{run}"]["outs"].append(
                {"path": f"reports/metrics/{run}.json", "md5": f"{5:032x}"}
            )
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))

    def retrained(self, run: str) -> registry.Version:
        """The version of the run after one more training."""
        self.stand["train", run] = self.stand.get(("train", run), 0) + 1
        self._outputs(run, *RUNS[run])
        self.lock()
        return registry.version_of_run(self.root, run)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The store of a project all of whose runs are registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = tmp_path_factory.mktemp("filled")
        made = registry.register(Project(root).root)
        assert [str(each) for each in made] == [f"{STORY}/1", f"{STORY}/2", f"{REVIEWS}/1"]
        return (root / "mlflow.db").read_bytes()


@pytest.fixture
def project(tmp_path: Path, filled: bytes, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose store has a version of every run, and no champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(filled)
    return Project(tmp_path)


def champion(project: Project, name: str = STORY) -> int | None:
    found = registry.champion(project.root, name)
    return None if found is None else found.version


def reigns(project: Project, name: str = STORY) -> list[int]:
    return [reign.version.version for reign in registry.champions(project.root)[name]]


def everything(project: Project) -> list[str]:
    """The store's whole content, but for what SQLite itself keeps."""
    with sqlite3.connect(project.root / "mlflow.db") as opened:
        return list(opened.iterdump())


def test_a_version_tells_whence_it_came_and_its_run_tells_the_version(project: Project) -> None:
    found = registry.version_of_run(project.root, "gru")
    assert (found.name, found.version, found.run, found.score) == (
        STORY,
        2,
        "gru",
        "perplexity 4.25 [4.00, 4.50]",
    )
    for stage, kind in (
        ("train", "model"),
        ("vocab", "vocab"),
        ("tokenize", "tokens"),
        ("predict", "predictions"),
    ):
        assert found.md5(kind) == project.out(stage, "gru")["md5"]
    assert found.block["search"] == project.search
    assert found.block["model"] == {"hidden": 8}
    assert found.corpus_block["samples"] == [{"prompt": "a story", "reference": None}]
    client = mlflow_store.connect(project.root)
    tags = client.get_model_version(STORY, "2").tags
    assert tags["dvc.outs/data/models/gru"] == found.md5("model")
    found_by_hash = client.search_model_versions(
        f"tags.`dvc.outs/data/models/gru` = '{found.md5('model')}'"
    )
    assert [(each.name, each.version) for each in found_by_hash] == [(STORY, 2)]
    run = client.get_run(found.mlflow_run)
    assert run.data.tags["seqline.version"] == f"{STORY}/2"
    assert run.data.tags["seqline.run"] == "gru"


def test_a_hash_tells_the_versions_that_it_went_into_or_came_out_with(project: Project) -> None:
    tokens, model = (project.out(stage, "gru") for stage in ("tokenize", "train"))

    def of(path: str, md5: str) -> list[str]:
        return sorted(str(each) for each in registry.versions_with(project.root, path, md5))

    assert (
        of("", tokens["md5"]) == of(tokens["path"], tokens["md5"]) == [f"{STORY}/1", f"{STORY}/2"]
    )
    assert of("", model["md5"]) == of(model["path"], model["md5"]) == [f"{STORY}/2"]
    assert (
        of(CODE, f"{3:032x}") == of("", f"{3:032x}") == [f"{REVIEWS}/1", f"{STORY}/1", f"{STORY}/2"]
    )
    assert of(CODE, model["md5"]) == of("", f"{9:032x}") == []


def test_registering_again_changes_nothing(project: Project) -> None:
    before = everything(project)
    assert registry.register(project.root) == []
    assert registry.version_of_run(project.root, "lstm").version == 1
    assert everything(project) == before


def test_new_model_or_search_creates_a_version_but_new_scores_do_not(project: Project) -> None:
    assert str(project.retrained("lstm")) == f"{STORY}/3"
    project.search = {"method": "beam"}
    project.lock()
    assert sorted(str(each) for each in registry.register(project.root)) == [
        f"{REVIEWS}/2",
        f"{STORY}/4",
        f"{STORY}/5",
    ]
    project.stand["evaluate", "lstm"] = 1
    project.lock()
    assert registry.register(project.root) == []
    project.stand["train", "lstm"] = 0  # as after a checkout of the older commit
    project.search = {"method": "greedy", "max_length": 8}
    project.lock()
    assert registry.version_of_run(project.root, "lstm").version == 1


@pytest.mark.parametrize(
    ("stage", "name"),
    [("encode", "story"), ("tokenize", "story"), ("predict", "lstm"), ("vocab", "story")],
)
def test_a_run_whose_scores_are_of_older_data_or_answers_has_no_version(
    stage: str, name: str, project: Project
) -> None:
    """As `dvc repro` leaves it when it is killed half way: the lock's outs of one stage are newer
    than another's deps."""
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    lock["stages"][f"{stage}@{name}"]["outs"][0]["md5"] = md5("newer")
    (project.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert registry.register(project.root) == []
    with pytest.raises(
        UserError, match=r"^run: got lstm; expected one of .*mlp, whose outputs are evaluated"
    ) as error:
        registry.version_of_run(project.root, "lstm")
    assert "\n" not in str(error.value)


def test_registered_folder_has_no_weights_pickles_or_foreign_paths(project: Project) -> None:
    made = project.retrained("lstm")
    source = (
        MlflowClient(describe.uri(project.root))
        .get_model_version(made.name, str(made.version))
        .source
    )
    assert not Path(source).is_absolute()
    files = [path for path in (project.root / source).rglob("*") if path.is_file()]
    assert {"MLmodel", "loader.py", "requirements.txt", "input_example.json"} <= {
        path.name for path in files
    }
    assert sum(path.stat().st_size for path in files) < 10_000
    text = "\n".join(path.read_text() for path in files)
    assert str(project.root) in text
    assert "/tmp" not in text.replace(str(project.root), "")
    assert str(Path(__file__).parents[2]) not in text
    assert "a story" in (project.root / source / "input_example.json").read_text()


def test_version_attachments_are_stored_with_its_run(project: Project, tmp_path: Path) -> None:
    version = registry.version_of_run(project.root, "mlp")
    (tmp_path / "more" / "gate").mkdir(parents=True)
    (tmp_path / "more" / "gate" / "decision.json").write_text("{}")
    registry.log_artifacts(project.root, version, tmp_path / "more")
    assert [
        path.parent.parent.name for path in project.root.glob("mlartifacts/**/gate/decision.json")
    ] == ["artifacts"]
    assert version.mlflow_run in str(next(project.root.glob("mlartifacts/**/gate")))


@pytest.mark.long
def test_champions_follow_one_another_and_come_back_one_by_one(project: Project) -> None:
    assert champion(project) is None
    versions = [
        registry.version_of_run(project.root, "lstm"),
        registry.version_of_run(project.root, "gru"),
        project.retrained("lstm"),
    ]
    for number, version in enumerate(versions):
        registry.promote(project.root, version, {"p": f"0.0{number}"})
        assert champion(project) == version.version
    assert [reign.why for reign in registry.champions(project.root)[STORY]] == [
        {"p": "0.02"},
        {"p": "0.01"},
        {"p": "0.00"},
    ]
    assert all(reign.since.startswith("20") for reign in registry.champions(project.root)[STORY])
    for left in ([2, 1], [1]):
        assert registry.rollback(project.root, STORY).version == left[0]
        assert (champion(project), reigns(project)) == (left[0], left)
    with pytest.raises(
        UserError, match=f"^{STORY}: got version 1, the first champion; expected"
    ) as error:
        registry.rollback(project.root, STORY)
    assert "\n" not in str(error.value)
    registry.promote(project.root, versions[2], {})
    assert reigns(project) == [3, 1]
    assert champion(project, REVIEWS) is None


def test_promoting_the_champion_changes_nothing(project: Project) -> None:
    version = registry.version_of_run(project.root, "lstm")
    registry.promote(project.root, version, {})
    before = everything(project)
    registry.promote(project.root, version, {"again": "yes"})
    assert everything(project) == before


@pytest.mark.long
def test_a_promotion_that_is_killed_leaves_the_champion_and_those_before_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstm, gru = (registry.version_of_run(project.root, run) for run in ("lstm", "gru"))
    registry.promote(project.root, lstm, {})

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", die)
        with pytest.raises(Killed):
            registry.promote(project.root, gru, {})
    assert (champion(project), reigns(project)) == (1, [1])
    third = project.retrained("lstm")
    registry.promote(project.root, third, {})
    assert reigns(project) == [3, 1]
    assert registry.rollback(project.root, STORY).version == 1


def test_manually_set_champion_alias_is_respected(project: Project) -> None:
    lstm = registry.version_of_run(project.root, "lstm")
    registry.promote(project.root, lstm, {})
    mlflow_store.connect(project.root).set_registered_model_alias(STORY, "champion", "2")
    assert [
        (reign.version.version, bool(reign.since))
        for reign in registry.champions(project.root)[STORY]
    ] == [
        (2, False),
        (1, True),
    ]
    assert registry.rollback(project.root, STORY).version == 1


def test_a_challenger_is_shown_until_it_is_champion(project: Project) -> None:
    lstm, gru = (registry.version_of_run(project.root, run) for run in ("lstm", "gru"))

    def aliases() -> dict[str, str]:
        [model] = mlflow_store.connect(project.root).search_registered_models(f"name = '{STORY}'")
        return {alias: str(number) for alias, number in model.aliases.items()}

    registry.promote(project.root, lstm, {})
    registry.set_challenger(project.root, gru)
    assert aliases() == {"champion": "1", "challenger": "2"}
    assert (champion(project), reigns(project)) == (1, [1])
    registry.promote(project.root, gru, {})
    assert aliases() == {"champion": "2"}


@pytest.mark.long
def test_concurrent_promotions_are_serialized(project: Project) -> None:
    versions = [registry.version_of_run(project.root, run) for run in ("lstm", "gru")] + [
        project.retrained("lstm")
    ]
    threads = [
        threading.Thread(target=registry.promote, args=(project.root, each, {}))
        for each in versions * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [model] = mlflow_store.connect(project.root).search_registered_models(f"name = '{STORY}'")
    moves = [
        json.loads(said) for key, said in sorted(model.tags.items()) if key.startswith("promotion.")
    ]
    assert {move["version"] for move in moves} == {1, 2, 3}
    stood = [None, *(move["version"] for move in moves)]
    assert [move["from"] for move in moves] == stood[:-1]
    assert champion(project) == stood[-1]


def test_those_who_led_to_the_champion_are_known_whatever_befell() -> None:
    """Against a stack, over promotions and returns, of which some were killed after they were told
    and before they came."""
    chance = random.Random(1)
    longest = 0
    for _ in range(500):
        moves: list[dict[str, Any]] = []
        stack: list[int] = []
        for _ in range(chance.randrange(12)):
            holder = stack[-1] if stack else None
            back = len(stack) > 1 and chance.random() < 0.3
            version = (
                stack[-2]
                if back
                else chance.choice([number for number in range(5) if number != holder])
            )
            moves.append({"version": version, "from": holder, "at": "", "back": back})
            if chance.random() < 0.7:
                stack = stack[:-1] if back else [*stack, version]
        found = [
            move["version"] for move in versions.champion_moves(moves, stack[-1] if stack else None)
        ]
        assert found == stack
        longest = max(longest, len(found))
    assert longest > 5


def test_sync_registers_recorded_runs(project: Project) -> None:
    assert "registered as" not in tracking.sync(project.root)
    project.stand["train", "gru"] = 7
    project._outputs("gru", *RUNS["gru"])
    project.lock()
    said = tracking.sync(project.root)
    assert f"gru: registered as {STORY}/3, perplexity 4.25 [4.00, 4.50]" in said
    assert "gru: recorded" in said


def write_evaluation(root: Path, test: bool) -> None:
    """Add the section `evaluation` to params.yaml."""
    block = {"bootstrap": 20, "confidence": 0.95, "seed": 1, "test": test}
    with (root / "params.yaml").open("a", encoding="utf-8") as file:
        file.write(yaml.safe_dump({"evaluation": block}))


def test_no_run_is_promoted_without_test_scores(
    project: Project, seqline: Callable[..., Any]
) -> None:
    write_evaluation(project.root, test=False)
    refused = seqline(project.root, "promote", "lstm")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "evaluation.test: got false; expected true, as a champion is chosen" in refused.err


def test_champions_and_promote_commands(project: Project, seqline: Callable[..., Any]) -> None:
    write_evaluation(project.root, test=True)

    def said(*words: str) -> str:
        told = seqline(project.root, *words)
        assert (told.status, told.err) == (0, "")
        return str(told.out)

    assert f"{STORY}" in said("champions")
    assert said("promote", "lstm").startswith(
        f"{STORY}/1 (lstm, perplexity 4.25 [4.00, 4.50]) is champion\n"
    )
    assert f"is champion in place of {STORY}/1" in said(
        "promote", STORY, "2", "--why", "it is kinder"
    )
    assert "already" in said("promote", "gru")
    table = said("champions")
    assert "it is kinder" in table
    assert "lstm" not in table
    assert "lstm" in said("champions", "--history")
    assert said("rollback", STORY).startswith(f"{STORY}/1 (lstm")
    assert said("champions", "--of", "data/tokens/story/train.parquet").count(STORY) == 2
    assert said("champions", "--of", project.out("train", "mlp")["md5"]).count(REVIEWS) == 1
    assert "in no version" in said("champions", "--of", f"{9:032x}")


def test_dead_server_is_reported_in_one_line(
    project: Project, seqline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    write_evaluation(project.root, test=True)
    told = seqline(project.root, "promote", "lstm")
    assert (told.status, told.err.count("\n")) == (2, 1)
    assert "MLFLOW_TRACKING_URI: got http://127.0.0.1:9; expected a store that works" in told.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("promote", "lstn"),
            "promote: got lstn; expected a run, one of lstm, gru, mlp, or a registered model",
        ),
        (("promote", STORY), f"promote: got {STORY}; expected a run"),
        (("promote", STORY, "7"), f"{STORY}: got version 7; expected one of 1, 2."),
        (("promote", "story", "1"), f"model: got story; expected one of {REVIEWS}, {STORY}."),
        (("rollback", STORY), f"{STORY}: got no champion; expected one that came after another."),
        (("rollback", "story"), f"model: got story; expected one of {REVIEWS}, {STORY}."),
        (
            ("champions", "--of", "README.md"),
            "README.md: got no path in dvc.lock; expected",
        ),
        (("serve", "story"), f"model: got story; expected one of {REVIEWS}, {STORY}."),
        (
            ("serve", STORY),
            "the metrics of lstm: got no task; expected the metrics of an evaluated run. Run ",
        ),
        (("serve", f"{STORY}/x"), f"{STORY}/x: got version x; expected a number."),
        (("serve", f"{STORY}/9"), f"{STORY}: got version 9; expected one of 1, 2."),
    ],
)
def test_a_mistake_gets_one_line(
    words: tuple[str, ...], line: str, project: Project, seqline: Callable[..., Any]
) -> None:
    told = seqline(project.root, *words)
    assert told.status == 2
    assert line in told.err
    assert told.err.count("\n") == 1


# What a retraining does with it


@pytest.fixture
def settled(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., challenge.Verdict]:
    """`settled("gru")`: what becomes of the run, which wins or not; `meanwhile` is done while it is
    compared."""
    shutil.copy(Path(__file__).parents[2] / "flow.yaml", project.root)
    with (project.root / "params.yaml").open("a") as file:
        file.write("evaluation: {}\n")

    def settle(
        run: str, meanwhile: Callable[[], object] = lambda: None, promote: bool = True
    ) -> challenge.Verdict:
        def held(*_: object) -> Any:
            meanwhile()
            verdict = f"{run} is {'promoted' if promote else 'not promoted'}"
            return SimpleNamespace(promote=promote, verdict=verdict, p=0.01, markdown=str, json=str)

        monkeypatch.setattr(challenge.select, "best_run", lambda *_: run)
        monkeypatch.setattr(challenge, "_decide", held)
        return challenge.evaluate(project.root, STORY, [run])

    return settle


@pytest.mark.long
def test_a_champion_that_was_moved_during_a_contest_stays(project: Project, settled) -> None:
    assert settled("lstm").event == "promoted"
    third = project.retrained("lstm")
    line = rf"^{STORY}/2: got version 3 for its champion; expected version 1, which"
    with pytest.raises(UserError, match=line) as refused:
        settled("gru", lambda: registry.promote(project.root, third, {"by": "hand"}))
    assert "\n" not in str(refused.value)
    assert (champion(project), reigns(project)) == (3, [3, 1])
    assert settled("gru").event == "promoted", "against the champion of now it may win"
    assert (champion(project), reigns(project)) == (2, [2, 3, 1])


@pytest.mark.long
def test_a_version_that_was_rolled_back_does_not_win_again_whatever_is_forgotten(
    project: Project, settled
) -> None:
    """Its victory over the champion is no secret to the gate, but the rollback is in the
    registry."""
    settled("lstm")
    assert settled("gru").event == "promoted"
    assert registry.rollback(project.root, STORY).version == 1
    again = settled("gru")
    assert (again.event, champion(project)) == ("decided", 1)
    assert "gru (version 2) was rolled back and does not challenge again" in again.line
    project.retrained("gru")
    assert (settled("gru").event, champion(project)) == ("promoted", 3)
    registry.promote(project.root, registry.version(project.root, STORY, 2), {"by": "hand"})
    assert registry.rolled_back_versions(project.root, STORY) == set()


def test_champion_replaced_in_mlflow_ui_is_not_shown_as_promoted(project: Project, settled) -> None:
    settled("lstm")
    settled("gru")
    mlflow_store.connect(project.root).set_registered_model_alias(STORY, "champion", "1")
    again = settled("gru")
    assert (again.event, champion(project)) == ("decided", 1)
    assert "is promoted" not in again.line


@pytest.mark.long
def test_clones_reuse_an_earlier_decision(project: Project, settled) -> None:
    """Until the rules are others, or the champion."""
    held: list[int] = []

    def settle() -> tuple[str, str]:
        verdict = settled("gru", lambda: held.append(1), promote=False)
        return verdict.event, verdict.line

    settled("lstm")
    assert settle() == ("kept", f"{STORY}: gru is not promoted")
    for left in (project.root / ".seqline").glob("*"):  # as a clone, which lacks all of it
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert settle() == ("decided", f"{STORY}: gru is not promoted (decided before)")
    assert len(held) == 1
    rules = (project.root / "flow.yaml").read_text()
    (project.root / "flow.yaml").write_text(rules.replace("level: 0.05", "level: 0.01"))
    assert settle()[0] == "kept"
    registry.promote(project.root, project.retrained("lstm"), {"by": "hand"})
    assert settle()[0] == "kept"
    assert len(held) == 3


def test_challenger_alias_marks_the_compared_version(project: Project, settled) -> None:
    def aliases() -> dict[str, int]:
        [model] = mlflow_store.connect(project.root).search_registered_models(f"name = '{STORY}'")
        return {alias: int(number) for alias, number in model.aliases.items()}

    seen: list[dict[str, int]] = []
    for run in ("lstm", "gru"):
        settled(run, lambda: seen.append(aliases()))
    assert seen == [{}, {"champion": 1, "challenger": 2}]
    assert aliases() == {"champion": 2}


# What others can write into a shared registry


def rewritten(project: Project, number: int, **parts: Any) -> None:
    """Change parts of a version's tags, as anybody can who reaches the server."""
    client = mlflow_store.connect(project.root)
    tags = json.loads(client.get_model_version(STORY, str(number)).tags[versions.LINEAGE])
    client.set_model_version_tag(
        STORY, str(number), versions.LINEAGE, json.dumps({**tags, **parts})
    )


@pytest.mark.parametrize(
    "bad",
    mostly_long(
        [
            "../" * 8 + "tmp/x",
            "/etc",
            "a" * 31,
            "A" * 32,
            f"{1:032x}.dirx",
            f"{1:032x}\n",
            "\0",
            7,
            None,
        ],
        3,
    ),
)
def test_a_version_with_an_invalid_md5_is_refused(bad: Any, project: Project) -> None:
    outs = dict(registry.version(project.root, STORY, 2).outs)
    rewritten(project, 2, outs={**outs, "data/models/gru": bad})
    with pytest.raises(
        UserError,
        match=rf"^{STORY}/2 in MLflow's registry: tags: data/models/gru: got .* expected an md5",
    ) as refused:
        registry.champions(project.root)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "bad", ["../x", "/etc/passwd", "a/../../b", "a//b", ".", "", "a\\..\\b", "a\0b"]
)
def test_a_version_whose_paths_lead_out_of_the_project_is_refused(
    bad: str, project: Project
) -> None:
    version = registry.version(project.root, STORY, 2)
    rewritten(
        project,
        2,
        outs={**version.outs, bad: f"{1:032x}.dir"},
        places={**version.places, "model": bad},
    )
    with pytest.raises(UserError, match=r"got .* expected a path inside of its folder"):
        registry.version(project.root, STORY, 2)


@pytest.mark.parametrize(
    ("tag", "value"),
    mostly_long(
        [
            ("run", "../../up"),
            ("run", "x; touch pwned"),
            (versions.LINEAGE, "{"),
            (versions.LINEAGE, "[]"),
            (versions.LINEAGE, "{}"),
            (versions.LINEAGE, "[" * 4000),
            (
                versions.LINEAGE,
                (
                    '{"outs": 1, "places": 2, "code": 3, "block": {"task": 1, "corpus": 2}, '
                    '"corpus_block": 5}'
                ),
            ),
        ],
        2,
    ),
)
def test_a_version_whose_tags_are_not_seqline_s_is_refused_in_one_line(
    tag: str, value: str, project: Project
) -> None:
    mlflow_store.connect(project.root).set_model_version_tag(STORY, "2", tag, value)
    with pytest.raises(
        UserError, match=rf"^{STORY}/2 in MLflow's registry: .* Delete the version there"
    ) as refused:
        registry.versions_with(project.root, "", f"{9:032x}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "tag",
    mostly_long(
        [
            "{",
            "[1]",
            "7",
            '{"version": "1; x"}',
            '{"version": 1, "from": null, "at": 5}',
            "[" * 4000,
        ],
        2,
    ),
)
def test_a_move_or_a_decision_that_no_seqline_wrote_is_passed_over(
    tag: str, project: Project
) -> None:
    lstm = registry.version_of_run(project.root, "lstm")
    registry.promote(project.root, lstm, {})
    client = mlflow_store.connect(project.root)
    client.set_registered_model_tag(STORY, "promotion.5", tag)
    client.set_model_version_tag(STORY, "1", versions.DECISION, tag)
    assert reigns(project) == [1]
    assert registry.recorded_decision(project.root, lstm, "key") is None


def test_versions_under_old_tags_and_keys_are_read_as_new_ones(project: Project) -> None:
    gru, decision = registry.version_of_run(project.root, "gru"), "gru is better"
    registry.promote(project.root, gru, {})
    registry.record_decision(project.root, gru, "key", decision)
    client = mlflow_store.connect(project.root)
    entry = client.get_model_version(STORY, str(gru.version))
    old = json.loads(entry.tags[versions.LINEAGE])
    old["block"] |= {"start": "scratch"}
    old["corpus_block"] |= {"bleu": "zh"}
    values = {
        versions.LINEAGE: json.dumps(old),
        versions.DECISION: entry.tags[versions.DECISION],
    }
    for name, new in versions.RENAMED_TAGS.items():
        client.set_model_version_tag(STORY, str(gru.version), name, values[new])
        client.delete_model_version_tag(STORY, str(gru.version), new)
    client.set_registered_model_tag(STORY, "seqline.made", "seqline")
    client.delete_registered_model_tag(STORY, versions.LINEAGE)

    found = registry.champion(project.root, STORY)
    assert found is not None
    assert found.block == gru.block | {"init_from": "scratch"}
    assert found.corpus_block == gru.corpus_block | {"bleu_tokenizer": "zh"}
    assert registry.recorded_decision(project.root, gru, "key") == decision
    assert registry.version_of_run(project.root, "gru").version == gru.version
    assert reigns(project) == [gru.version]


def test_a_new_tag_wins_over_its_old_name() -> None:
    entry = SimpleNamespace(tags={"seqline.made": "old", versions.LINEAGE: "new", "run": "x"})
    assert versions.read_tags(entry) == {versions.LINEAGE: "new", "run": "x"}


def test_a_quote_in_the_name_of_a_model_changes_no_search(project: Project) -> None:
    client = mlflow_store.connect(project.root)
    client.create_registered_model("x' or name != 'y", {versions.LINEAGE: "seqline"})
    assert set(registry.champions(project.root)) == {STORY, REVIEWS}


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts:/../../out",
        "mlflow-artifacts:/a/../../../out",
        "mlflow-artifacts:/a\\b",
        "link",
    ],
)
def test_artifacts_go_nowhere_but_into_the_project_s_folder_of_them(
    uri: str, project: Project, tmp_path: Path
) -> None:
    outside, inside = tmp_path / "outside", artifacts.artifact_folder(project.root)
    outside.mkdir()
    if uri == "link":
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "away").symlink_to(outside)
        uri = "mlflow-artifacts:/away"
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "decision.json").write_text("{}")
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri=uri, run_id="1"))
    with pytest.raises(
        UserError, match=r"^artifact_uri of an MLflow run: got .* expected a place in "
    ):
        artifacts.log_artifacts(
            mlflow_store.connect(project.root), project.root, run, tmp_path / "given"
        )
    assert not list(tmp_path.rglob("out*/decision.json"))


def test_artifact_replaces_a_symlink_but_not_its_target(project: Project, tmp_path: Path) -> None:
    precious, place = (
        tmp_path / "precious",
        artifacts.artifact_folder(project.root) / "1" / "artifacts",
    )
    precious.write_text("keep")
    place.mkdir(parents=True)
    (place / "decision.json").symlink_to(precious)
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "decision.json").write_text("{}")
    run = SimpleNamespace(
        info=SimpleNamespace(artifact_uri="mlflow-artifacts:/1/artifacts", run_id="1")
    )
    artifacts.log_artifacts(
        mlflow_store.connect(project.root), project.root, run, tmp_path / "given"
    )
    assert (precious.read_text(), (place / "decision.json").read_text()) == ("keep", "{}")


# What was deleted or renamed in MLflow


def active_runs(project: Project) -> list[tuple[str, str]]:
    """Name and digest of every active run in every experiment."""
    client = mlflow_store.connect(project.root)
    return sorted(
        (run.data.tags[mlflow_store.RUN], run.data.tags[mlflow_store.DIGEST])
        for run in all_runs(client)
    )


def experiment(project: Project, task: str = "language_model") -> Any:
    return mlflow_store.connect(project.root).get_experiment_by_name(f"seqline/{task}")


def run_of(project: Project, name: str) -> Any:
    client = mlflow_store.connect(project.root)
    [run] = client.search_runs(
        [experiment(project).experiment_id], f"tags.`{mlflow_store.RUN}` = '{name}'"
    )
    return run


RUNS_THERE = [("gru", "gru0"), ("lstm", "lstm0"), ("mlp", "mlp0")]


def test_deleted_experiment_is_restored_without_duplicate_runs(project: Project) -> None:
    tracking.sync(project.root)
    before = run_of(project, "lstm").info.run_id
    mlflow_store.connect(project.root).delete_experiment(experiment(project).experiment_id)
    assert active_runs(project) == [("mlp", "mlp0")]
    tracking.sync(project.root)
    assert active_runs(project) == RUNS_THERE
    assert run_of(project, "lstm").info.run_id == before


def test_deleted_run_is_restored_without_a_duplicate(project: Project) -> None:
    tracking.sync(project.root)
    before = run_of(project, "gru").info.run_id
    mlflow_store.connect(project.root).delete_run(before)
    tracking.sync(project.root)
    assert active_runs(project) == RUNS_THERE
    assert run_of(project, "gru").info.run_id == before


def test_renamed_experiment_is_reused(project: Project) -> None:
    tracking.sync(project.root)
    client = mlflow_store.connect(project.root)
    client.rename_experiment(experiment(project).experiment_id, "my stories")
    project.retrained("lstm")
    tracking.sync(project.root)
    assert experiment(project) is None
    assert active_runs(project) == sorted([*RUNS_THERE, ("lstm", "lstm1")])


def test_permanently_deleted_experiment_is_recreated(project: Project) -> None:
    tracking.sync(project.root)
    client = mlflow_store.connect(project.root)
    old = experiment(project).experiment_id
    client.delete_experiment(old)
    client._tracking_client.store._hard_delete_experiment(old)
    tracking.sync(project.root)
    assert active_runs(project) == RUNS_THERE


def test_of_two_runs_of_one_training_the_one_with_a_version_stays(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an older `seqline sync` left them after an experiment was deleted, or as two machines made
    them."""
    tracking.sync(project.root)
    client = mlflow_store.connect(project.root)
    versioned = run_of(project, "lstm")
    tags = {mlflow_store.RUN: "lstm", mlflow_store.DIGEST: "lstm0"}
    older = client.create_run(
        versioned.info.experiment_id, start_time=1, tags=tags, run_name="lstm"
    )
    assert len(active_runs(project)) == 4
    tracking.sync(project.root)
    assert active_runs(project) == RUNS_THERE
    assert run_of(project, "lstm").info.run_id == versioned.info.run_id
    assert (
        f"lstm: one training had two MLflow runs: {older.info.run_id} is deleted"
        in capsys.readouterr().err
    )
    assert client.get_run(older.info.run_id).info.lifecycle_stage == "deleted", (
        "and can be brought back"
    )
