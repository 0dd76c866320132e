"""`seqline use --seeds`: more or fewer runs of a setting, a line each."""

import statistics
from pathlib import Path

import fast_yaml
import pytest
import stage_inputs
from long_cases import mostly_long

from pipeline.cli import seeds
from pipeline.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
SOME_FILES = mostly_long(
    FILES, lambda path: path.stem in {"params", "wikitext2"}, lambda path: path.stem
)
DEFAULT = FILES[0].read_text(encoding="utf-8")


def runs_of(text: str, setting: str) -> dict[str, dict]:
    runs = fast_yaml.load(text)["runs"]
    return {name: run for name, run in runs.items() if run["setting"] == setting}


def seeds_of(text: str) -> dict[str, list[int]]:
    """Seeds of every setting, in the order of the file."""
    seeds_by_setting: dict[str, list[int]] = {}
    for run in fast_yaml.load(text)["runs"].values():
        seeds_by_setting.setdefault(run["setting"], []).append(run["seed"])
    return seeds_by_setting


def trained(text: str) -> list[str]:
    """The settings that are trained by gradients, or contain one that is, on one corpus."""
    content = fast_yaml.load(text)

    def is_trained(run: dict) -> bool:
        begins_from = content["runs"].get(run["init_from"])
        has_optimiser = content["settings"][run["setting"]]["optim"] is not None
        return has_optimiser or (begins_from is not None and is_trained(begins_from))

    runs_by_setting: dict[str, list[dict]] = {}
    for run in content["runs"].values():
        runs_by_setting.setdefault(run["setting"], []).append(run)
    return [
        name
        for name in content["settings"]
        if any(is_trained(run) for run in runs_by_setting[name])
        and len({run["corpus"] for run in runs_by_setting[name]}) == 1
    ]


def added_lines(before: str, after: str) -> list[str]:
    """Lines that `after` has more than `before`, of which it keeps all in their order."""
    rest = iter(after.splitlines())
    added = []
    for line in before.splitlines():
        while (next_line := next(rest)) != line:
            added.append(next_line)
    return [*added, *rest]


def test_every_setting_gets_the_number_of_seeds(project, seqline) -> None:
    said = seqline(project, "use", "default", "--seeds", "4")
    assert (said.status, said.err) == (0, "")
    assert "  seeds: 4\n" in said.out
    text = (project / "params.yaml").read_text(encoding="utf-8")
    settings = trained(DEFAULT)
    numbers = seeds_of(text)
    assert all(numbers[name] == [1, 2, 3, 4] for name in settings)
    assert added_lines(DEFAULT, text) == [
        f"  {name}-4: {{<<: *{name}, seed: 4"
        + (", init_from: bert-4}" if name == "bert_sentiment" else "}")
        for name in settings
    ]
    assert seqline(project, "check").status == 0


@pytest.mark.long
def test_more_seeds_of_a_setting_add_its_stages_and_no_others(repository, seqline) -> None:
    before = stage_inputs.read(repository)
    assert seqline(repository, "use", "default", "--seeds", "lstm=4").status == 0
    after = stage_inputs.read(repository)
    assert after.keys() - before.keys() == {"train@lstm-4", "predict@lstm-4", "evaluate@lstm-4"}
    assert before.keys() <= after.keys()
    assert stage_inputs.changed(before, after) == {"report"}


def test_fewer_seeds_remove_lines_and_outputs_of_the_other_runs(project, seqline) -> None:
    for name in ("lstm-1", "lstm-2", "gru-3"):
        (project / "data/models" / name).mkdir(parents=True)
    stages = {
        f"train@{name}": {"cmd": "x", "outs": [{"path": f"data/models/{name}"}]}
        for name in ("lstm-1", "lstm-2", "gru-3")
    }
    (project / "dvc.lock").write_text(fast_yaml.dump({"schema": "2.0", "stages": stages}))
    said = seqline(project, "use", "default", "--seeds", "lstm=1")
    assert said.status == 0
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert list(runs_of(text, "lstm")) == ["lstm-1"]
    assert len(added_lines(text, DEFAULT)) == 2
    assert sorted(path.name for path in (project / "data/models").iterdir()) == ["gru-3", "lstm-1"]
    assert "data/models/lstm-2" in said.out


@pytest.mark.parametrize("file", SOME_FILES)
def test_more_seeds_and_then_fewer_give_the_original_text(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    numbers = {name: len(found) for name, found in seeds_of(text).items()}
    more = seeds.with_seeds(text, ["5"])
    names = trained(text)
    assert names
    numbers_of_more = seeds_of(more)
    assert all(numbers_of_more[name] == [1, 2, 3, 4, 5] for name in names)
    # Back to the most common number, and to the others one by one.
    common = statistics.mode(numbers[name] for name in names)
    odd = [f"{name}={numbers[name]}" for name in names if numbers[name] != common]
    assert seeds.with_seeds(more, [str(common), *odd]) == text


@pytest.mark.parametrize("file", SOME_FILES)
def test_more_seeds_of_every_preset_are_in_order(file: Path, project, seqline) -> None:
    name = "default" if file.stem == "params" else file.stem
    said = seqline(project, "use", name, "--seeds", "5")
    assert (said.status, said.err) == (0, "")
    lines = added_lines(file.read_text(encoding="utf-8"), (project / "params.yaml").read_text())
    assert lines
    assert all(len(line) <= 100 for line in lines)


def test_a_further_seed_has_the_keys_of_the_first(project) -> None:
    more = seeds.with_seeds(DEFAULT, ["attention=5"])
    first, *others = runs_of(more, "attention").values()
    assert [run["seed"] for run in others] == [2, 3, 4, 5]
    assert all(run | {"seed": 1} == first for run in others)


def test_a_run_that_begins_from_another_begins_from_its_own_seed() -> None:
    more = seeds.with_seeds(DEFAULT, ["5"])
    runs = runs_of(more, "bert_sentiment")
    assert {run["seed"]: run["init_from"] for run in runs.values()} == {
        seed: f"bert-{seed}" for seed in range(1, 6)
    }


def test_mixtures_have_the_seeds_of_the_network_in_them() -> None:
    text = (ROOT / "presets/d2l.yaml").read_text(encoding="utf-8")
    for count in (1, 4):
        runs = runs_of(seeds.with_seeds(text, [str(count)]), "interpolated")
        assert {run["seed"]: run["init_from"] for run in runs.values()} == {
            seed: f"large_gru-{seed}" for seed in range(1, count + 1)
        }
    # The n-gram models have nothing to draw.
    assert seeds_of(seeds.with_seeds(text, ["4"]))["kn6"] == [1]


def test_seeds_that_share_a_trained_beginning_are_refused(project, seqline, edited) -> None:
    edited(project, "runs.bert_sentiment-2.init_from", "bert-1")
    said = seqline(project, "check")
    assert said.status == 2
    assert said.err == (
        "seqline: runs.bert_sentiment-1.init_from: got bert-1, from which bert_sentiment-2 of the "
        "same setting begins; expected another seed of bert: each seed begins from its own. Add a "
        "seed of bert, or give bert_sentiment-1 another setting.\n"
    )


def test_cross_validated_settings_keep_their_runs() -> None:
    text = (ROOT / "presets/sentiment.yaml").read_text(encoding="utf-8")
    more = seeds.with_seeds(text, ["5"])
    assert runs_of(more, "rt_cnn") == runs_of(text, "rt_cnn")
    with pytest.raises(UserError, match=r"^--seeds: got rt_cnn, whose runs are on several corpora"):
        seeds.with_seeds(text, ["rt_cnn=5"])


def test_settings_without_training_keep_their_runs_unless_they_are_named(project, seqline) -> None:
    more = seeds.with_seeds(DEFAULT, ["5"])
    fitted = [
        name
        for name, block in fast_yaml.load(DEFAULT)["settings"].items()
        if block["optim"] is None
    ]
    assert "nbsvm" in fitted
    assert all(runs_of(more, name) == runs_of(DEFAULT, name) for name in fitted)
    assert seqline(project, "use", "default", "--seeds", "nbsvm=2").status == 0
    assert seeds_of((project / "params.yaml").read_text(encoding="utf-8"))["nbsvm"] == [1, 2]


@pytest.mark.long
def test_a_run_without_an_anchor_gets_further_seeds_with_all_keys(project, seqline, edited) -> None:
    """As in a file that DVC or another program has written."""
    edited(project, "evaluation.seed", 2)
    text = (project / "params.yaml").read_text(encoding="utf-8")
    more = seeds.with_seeds(text, ["gru=4"])
    fourth = runs_of(more, "gru")["gru-4"]
    assert fourth == runs_of(text, "gru")["gru-1"] | {"seed": 4}
    (project / "params.yaml").write_text(more, encoding="utf-8")
    assert seqline(project, "check").status == 0


@pytest.mark.parametrize("indent", [2, 4])
@pytest.mark.parametrize("end", ["\n", ""])
def test_seeds_in_between_are_added_where_others_are_removed(indent: int, end: str) -> None:
    runs = """runs:
  a-1: &a
    setting: a
    corpus: c
    init_from: scratch
    seed: 1
  # A comment.
  a-5: {<<: *a, seed: 5}
  b-1: &b
    setting: b
    corpus: c
    init_from: a-1
    seed: 1""".replace("  ", " " * indent)
    settings = "settings: {a: {optim: {}}, b: {optim: {}}}\n"
    after = seeds.with_seeds(settings + runs + end, ["3"])
    assert fast_yaml.load(after)["runs"].keys() == {"a-1", "a-2", "a-3", "b-1", "b-2", "b-3"}
    assert seeds_of(after) == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert runs_of(after, "b")["b-3"]["init_from"] == "a-3"
    assert "# A comment." in after


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_where_those_of_yaml_end(end: str) -> None:
    """U+2028 in a text ends no line."""
    text = """corpora: {c: {prompt: "one\u2028two\u0085three"}}
settings: {a: {optim: {}}, b: {optim: {}}}
runs:
  a-1: &a
    setting: a
    corpus: c
    init_from: scratch
    seed: 1
  a-2: {<<: *a, seed: 2}
  a-3: {<<: *a, seed: 3}
  b-1: {<<: *a, setting: b}
  b-2: {<<: *a, setting: b, seed: 2}
"""
    after = seeds.with_seeds(text.replace("\n", end), ["a=2"])
    assert after == text.replace("  a-3: {<<: *a, seed: 3}\n", "")


@pytest.mark.long
def test_changes_and_seeds_go_together(project, seqline) -> None:
    words = ["--set", "settings.lstm.model.hidden=64", "--seeds", "lstm=2", "--seeds", "gru=3"]
    assert seqline(project, "use", "d2l", *words).status == 0
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert fast_yaml.load(text)["settings"]["lstm"]["model"]["hidden"] == 64
    assert (seeds_of(text)["lstm"], seeds_of(text)["gru"]) == ([1, 2], [1, 2, 3])
    assert "  lstm-2: {<<: *lstm, seed: 2}\n" in text


@pytest.mark.parametrize("line", ["runs: []\n", "runs: {lstm-1: {seed: 1}}\n", "runs: {a: null}\n"])
def test_seeds_of_a_preset_with_a_mistake_are_refused_by_the_mistake(
    line: str, project, seqline
) -> None:
    text = DEFAULT[: DEFAULT.index("\nruns:\n") + 1] + line
    (project / "presets/mine.yaml").write_text(text, encoding="utf-8")
    said = seqline(project, "use", "mine", "--seeds", "4")
    assert said.status == 2
    assert all(line.startswith("seqline: runs") for line in said.err.splitlines())


EXAMPLE = "For example --seeds 5, or --seeds lstm=5 for one setting."
NUMBER = "expected a number of seeds, at least 1."


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("0", f"--seeds: got 0; {NUMBER} {EXAMPLE}"),
        ("-1", f"--seeds: got -1; {NUMBER} {EXAMPLE}"),
        ("three", f"--seeds: got three; {NUMBER} {EXAMPLE}"),
        ("lstm=0", f"--seeds: got lstm=0; {NUMBER} {EXAMPLE}"),
        ("lstm=", f"--seeds: got lstm=; {NUMBER} {EXAMPLE}"),
        ("2.5", f"--seeds: got 2.5; {NUMBER} {EXAMPLE}"),
        ("\u0663", f"--seeds: got \u0663; {NUMBER} {EXAMPLE}"),
        ("x=3", "--seeds: got x; expected one of rnn, gru, lstm, "),
        ("=3", "--seeds: got ; expected one of rnn, gru, lstm, "),
        (
            "bert_sentiment=4",
            "--seeds bert_sentiment: got seed 4; expected a seed that bert has, from which it "
            "begins. Add --seeds bert=4 before it.",
        ),
        (
            "bert=2",
            "runs.bert_sentiment-3.init_from: got bert-3; expected scratch or one of ",
        ),
    ],
)
def test_seeds_that_cannot_be_are_refused_in_one_line(
    option: str, line: str, project, seqline
) -> None:
    before = (project / "params.yaml").read_bytes()
    said = seqline(project, "use", "default", f"--seeds={option}")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"seqline: {line}"), said.err
    assert said.err.count("\n") == 1
    assert (project / "params.yaml").read_bytes() == before
