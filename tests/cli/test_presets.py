"""Style of `params.yaml` and the presets, and what a change of one key leaves alone."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fast_yaml
import pytest
import stage_inputs
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml
from long_cases import mostly_long

from pipeline.cli import presets

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
YAML_FILES = [*FILES, ROOT / "dvc.yaml", ROOT / "flow.yaml", ROOT / "prefect.yaml"]
each_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
some_files = pytest.mark.parametrize(
    "file",
    mostly_long(FILES, lambda path: path.stem in {"params", "d2l"}, lambda path: path.stem),
)


def leaves(node: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """Dotted keys of all values that are no sections."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*above, key))
    else:
        yield ".".join(above), node


def sections(node: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted keys of all sections that DVC changes in place; a list it replaces."""
    if isinstance(node, dict):
        yield ".".join(above), node
        for key, value in node.items():
            yield from sections(value, (*above, key))


def changed_keys(before: str, after: str) -> dict[str, object]:
    old, new = dict(leaves(fast_yaml.load(before))), dict(leaves(fast_yaml.load(after)))
    assert old.keys() == new.keys()
    return {key: new[key] for key in new if new[key] != old[key]}


def some_keys(content: dict[str, Any]) -> list[str]:
    """A merged key, an own key and one two levels down, of the first trained setting and of the
    last; and the seed of the last run."""
    keys = []
    trained = [name for name, block in content["settings"].items() if block["training"]]
    for name in (trained[0], trained[-1]):
        keys += [
            f"settings.{name}.{key}"
            for key in ("training.threads", "training.max_epochs", "optim.schedule.warmup_steps")
        ]
    return [*keys, f"runs.{next(reversed(content['runs']))}.seed"]


def section_node(file: Path, section: str) -> yaml.Node | None:
    """The section's node, which tells how it is written; None if the file has no such section."""
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=fast_yaml.LOADER)
    return next((value for key, value in root.value if key.value == section), None)


@each_file
def test_settings_are_in_block_style(file: Path) -> None:
    open_nodes = [section_node(file, "settings"), section_node(file, "shared")]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, yaml.MappingNode):
            assert not node.flow_style or not node.value, str(node.start_mark)  # {} is empty
            open_nodes += [value for _, value in node.value]


@each_file
def test_further_runs_of_a_setting_are_in_one_line_each(file: Path) -> None:
    runs = fast_yaml.load(file.read_text(encoding="utf-8"))["runs"]
    settings = set()
    for key, node in section_node(file, "runs").value:
        further = runs[key.value]["setting"] in settings
        settings.add(runs[key.value]["setting"])
        assert node.flow_style == further, str(node.start_mark)
        if further:
            assert node.start_mark.line == node.end_mark.line == key.start_mark.line


@each_file
def test_a_further_run_differs_from_the_first_in_what_its_line_says(file: Path) -> None:
    """Family, task and the other keys of a setting's runs are written once."""
    runs = fast_yaml.load(file.read_text(encoding="utf-8"))["runs"]
    first: dict[str, dict[str, Any]] = {}
    for key, node in section_node(file, "runs").value:
        run = runs[key.value]
        base = first.setdefault(run["setting"], run)
        if run is not base:
            written = {word.value for word, _ in node.value} - {"<<"}
            assert {word for word in run if run[word] != base[word]} == written


@each_file
def test_a_run_begins_from_a_run_with_its_own_seed(file: Path) -> None:
    runs = fast_yaml.load(file.read_text(encoding="utf-8"))["runs"]
    for name, run in runs.items():
        if run["init_from"] != "scratch":
            assert runs[run["init_from"]]["seed"] == run["seed"], name


@each_file
def test_no_two_keys_have_one_section(file: Path) -> None:
    """DVC writes all runs one after another: in a section of two runs, the values of the second
    would win."""
    seen: dict[int, str] = {}
    content = fast_yaml.load(file.read_text(encoding="utf-8"))
    for key, section in sections(content):
        assert seen.setdefault(id(section), key) == key, f"{key} is {seen[id(section)]}"


@some_files
def test_experiment_of_one_key_does_not_affect_others(file: Path, tmp_path: Path) -> None:
    """`dvc exp run -S` changes params.yaml by `apply_overrides`."""
    text = file.read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    keys = some_keys(fast_yaml.load(text))[::2]
    apply_overrides(path, [f"{key}=77" for key in keys])
    assert changed_keys(text, path.read_text(encoding="utf-8")) == dict.fromkeys(keys, 77)


@some_files
def test_a_key_written_through_dvc_changes_nothing_else(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    keys = some_keys(fast_yaml.load(text))
    with modify_yaml(path) as content:
        for key in keys:
            *above, last = key.split(".")
            section = content
            for word in above:
                section = section[word]
            section[last] = 77
    assert changed_keys(text, path.read_text(encoding="utf-8")) == dict.fromkeys(keys, 77)


@each_file
def test_a_key_given_to_use_changes_its_line_and_no_other(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    key = some_keys(fast_yaml.load(text))[-3]
    assert key.endswith(".training.max_epochs")
    after = presets.changed(text, [f"{key}=77"])
    assert changed_keys(text, after) == {key: 77}
    assert [line for line in after.splitlines() if line not in text.splitlines()] == [
        "      max_epochs: 77"
    ]


@each_file
def test_a_seed_given_to_use_changes_the_line_of_its_run(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    run = next(reversed(fast_yaml.load(text)["runs"]))
    after = presets.changed(text, [f"runs.{run}.seed=77"])
    assert changed_keys(text, after) == {f"runs.{run}.seed": 77}
    [line] = [line for line in after.splitlines() if line not in text.splitlines()]
    assert line == "    seed: 77" or re.fullmatch(
        rf"  {run}: {{<<: \*\w+, (corpus: \w+, )?seed: 77(, init_from: [\w-]+)?}}", line
    )


ALIASES = """\
corpora:
  a:
    text: &t {level: word, max_tokens: null}
  b:
    text: *t
settings:
  rnn: &base
    optim:
      learning_rate: 0.1 # the best of five
      betas: [0.9, 0.98]
    hidden: 8
  rnn_big:
    <<: *base
    hidden: 16
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("corpora.a.text.level", "char"),
        ("corpora.b.text.level", "char"),
        ("settings.rnn.optim.learning_rate", 0.5),
        ("settings.rnn_big.optim.learning_rate", 0.5),
        ("settings.rnn_big.optim.betas", [0.8, 0.98]),
        ("settings.rnn.hidden", 4),
    ],
)
def test_a_key_given_to_use_changes_no_block_that_shares_its_value(key: str, value: object) -> None:
    after = presets.changed(ALIASES, [f"{key}={value}"])
    assert changed_keys(ALIASES, after) == {key: value}


def test_a_block_with_an_anchor_stays_where_an_alias_has_it() -> None:
    text = "a:\n  optim: &o\n    rate: 1\nb:\n  optim: *o\n"
    after = presets.changed(text, ["a.optim=null"])
    assert fast_yaml.load(after) == {"a": {"optim": None}, "b": {"optim": {"rate": 1}}}


def test_a_key_of_shared_given_to_use_changes_all_that_merge_it() -> None:
    text = "shared:\n  training: &t\n    threads: 1\nsettings:\n  a: {<<: *t, epochs: 2}\n"
    after = presets.changed(text, ["shared.training.threads=3"])
    assert after == text.replace("threads: 1", "threads: 3")


def test_a_value_given_to_use_is_written_as_every_yaml_reads_it() -> None:
    text = "rate: 0.001\nlabel: a\nsamples: []\nlinks: [a]\n"
    changes = ["rate=0.00001", "label='no'", 'samples=[{prompt: "no", rate: 1e-7}]']
    changes.append('links=["https://a.b/c"]')
    assert presets.changed(text, changes) == (
        'rate: 0.00001\nlabel: "no"\nsamples:\n  - {prompt: "no", rate: 0.0000001}\n'
        'links: ["https://a.b/c"]\n'
    )


@pytest.mark.long
def test_experiment_of_a_setting_changes_all_of_its_seeds_and_nothing_else(
    repository: Path,
) -> None:
    before = stage_inputs.read(repository)
    apply_overrides(repository / "params.yaml", ["settings.lstm.model.hidden=512"])
    after = stage_inputs.read(repository)
    assert after.keys() == before.keys()
    trained = {"train@lstm-1", "train@lstm-2", "train@lstm-3"}
    assert stage_inputs.changed(before, after) == {*trained, "report"}
    assert {after[name].params["settings.lstm.model"]["hidden"] for name in trained} == {512}


@pytest.mark.long
def test_experiment_without_test_scores_trains_nothing(repository: Path) -> None:
    before = stage_inputs.read(repository)
    apply_overrides(repository / "params.yaml", ["evaluation.test=false"])
    after = stage_inputs.read(repository)
    assert after.keys() == before.keys()
    scored = {name for name in before if name.startswith(("predict@", "evaluate@"))}
    assert stage_inputs.changed(before, after) == {*scored, "report"}


@pytest.mark.long
def test_experiment_with_one_more_run_adds_its_stages_and_no_others(
    repository: Path, seqline
) -> None:
    before = stage_inputs.read(repository)
    block = (
        "{setting: lstm, family: recurrent_lm, task: language_model, corpus: toy_story, "
        "init_from: scratch, seed: 4}"
    )
    apply_overrides(repository / "params.yaml", [f"+runs.lstm-4={block}"])
    after = stage_inputs.read(repository)
    assert after.keys() - before.keys() == {"train@lstm-4", "predict@lstm-4", "evaluate@lstm-4"}
    assert before.keys() <= after.keys()
    assert stage_inputs.changed(before, after) == {"report"}
    first, fourth = (after[f"train@lstm-{seed}"].params["settings.lstm.model"] for seed in (1, 4))
    assert first == fourth
    assert seqline(repository, "check").status == 0


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda path: path.stem)
def test_lines_have_100_columns_at_most_but_for_addresses(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 100 and "https://" not in line] == []


def test_the_list_of_presets_has_a_whole_sentence_for_each() -> None:
    lines = presets.listing(ROOT).splitlines()
    assert {line[2:14].strip() for line in lines} >= {file.stem for file in FILES[1:]}
    for line in lines:
        assert len(line) <= 100, line
        assert line[15].isupper(), line
        assert line.endswith("."), line
