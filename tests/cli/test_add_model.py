"""`seqline add model`: a family begins as a copy that works; it gets a run, though no preset has
it."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import default_params
import fast_yaml
import pytest
import yaml

from pipeline import models
from pipeline.cli import make_parser, user_family
from pipeline.conformance import cases, template
from pipeline.core import config, params, tables

ROOT = Path(__file__).resolve().parents[2]
TASKS = config.module_names("pipeline.tasks")
GUIDE = (ROOT / "docs/own_model.md").read_text(encoding="utf-8")
STORIES = [f"the {a} {verb} the {b} ." for a in "abcdef" for verb in "uvw" for b in "abcdef"]
REVIEWS = [f"the {a} is {word}" for a in "abcdef" for word in ("good,5", "bad,1")]
PAIRS = [f"the {a} sees {b} .,le {a} voit {b} ." for a in "abcdef" for b in "ghijkl"]


@pytest.fixture
def root(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a few runs, from whose folder families are imported besides the real ones."""
    content = default_params.load()
    content["runs"] = {name: content["runs"][name] for name in ("rnn", "seq2seq", "mlp")}
    default_params.write(project, content)
    folder = project / "pipeline/models"
    folder.mkdir(parents=True)
    monkeypatch.setattr(models, "__path__", [str(folder), *models.__path__])
    names = config.module_names

    def with_new_names(package: str) -> list[str]:
        importlib.invalidate_caches()
        new_names = [file.stem for file in folder.glob("*.py")]
        return sorted(names(package) + new_names * (package == "pipeline.models"))

    monkeypatch.setattr(config, "module_names", with_new_names)
    (project / "stories.txt").write_text("\n".join(STORIES * 2) + "\n")
    (project / "reviews.csv").write_text("\n".join(["text,label", *REVIEWS * 8]) + "\n")
    (project / "pairs.csv").write_text("\n".join(["en,fr", *PAIRS]) + "\n")
    yield project
    for file in folder.glob("*.py"):
        sys.modules.pop(f"pipeline.models.{file.stem}", None)
        vars(models).pop(file.stem, None)


def text_of(root: Path, family: str) -> str:
    return (root / f"pipeline/models/{family}.py").read_text(encoding="utf-8")


def replace(root: Path, old: str, new: str) -> None:
    text = text_of(root, "my_family")
    assert text.count(old) == 1
    (root / "pipeline/models/my_family.py").write_text(text.replace(old, new))


def content(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = fast_yaml.load((root / "params.yaml").read_text(encoding="utf-8"))
    return loaded


def test_the_template_becomes_a_family_and_its_run_is_in_order(root: Path, seqline) -> None:
    result = seqline(root, "add", "model", "my_family")
    assert (result.status, result.err) == (0, "")
    assert text_of(root, "my_family") == Path(template.__file__).read_text(encoding="utf-8")
    first, *_, last = result.out.splitlines()
    assert first.startswith("wrote pipeline/models/my_family.py, a copy of pipeline/conformance/te")
    assert last.split() == ["seqline", "add", "run", "my_family", "toy_story"]

    seqline(root, "add", "corpus", "stories.txt")
    result = seqline(root, "add", "run", "my_family", "stories", "--seeds", "1")
    assert (result.status, result.err) == (0, "")
    block = params.run(root / "params.yaml", "stories_my_family-1")
    assert (block.family, block.task) == ("my_family", "language_model")
    assert list(block.model) == ["window", "embedding", "hidden", "dropout"]
    assert "values of `model:` are guessed" in result.out
    assert "next: seqline run evaluate@stories_my_family-1" in result.out
    assert "stories_my_family-2" not in content(root)["runs"]
    assert seqline(root, "check").status == 0


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_family_to_begin_with_which_the_guide_names(
    task: str, root: Path, seqline
) -> None:
    result = seqline(root, "add", "model", "mine", "--task", task)
    assert (result.status, result.err) == (0, "")
    module = config.named_module("pipeline.models", "mine", "")
    assert cases.tasks_of(module) == [task]
    copied = re.search(r"a copy of (\S+),", result.out)
    assert copied is not None
    assert re.search(rf"^\| {task} \|.*\]\(\.\./{copied[1]}\) \|$", GUIDE, re.MULTILINE)
    *_, last = result.out.splitlines()
    command = last.strip().partition(",")[0]
    if command.startswith("seqline"):
        make_parser().parse_args(command.split()[1:])
    else:
        assert not tables.has_text(config.named_module("pipeline.tasks", task, "").KIND)


@pytest.mark.parametrize("family", ["transformer", "bert_classifier", "ngram_lm"])
def test_a_copy_of_a_family_has_its_code_and_says_what_it_is(
    family: str, root: Path, seqline
) -> None:
    assert seqline(root, "add", "model", "mine", "--like", family).status == 0
    original = (ROOT / f"pipeline/models/{family}.py").read_text(encoding="utf-8")
    assert ast.dump(ast.parse(text_of(root, "mine"))) == ast.dump(ast.parse(original))
    assert text_of(root, "mine").startswith(f"# A copy of {family}.py. ")


@pytest.mark.parametrize(
    ("like", "file", "corpus"),
    [("seq2seq", "pairs.csv", "pairs"), ("mlp_classifier", "reviews.csv", "reviews")],
)
def test_an_unchanged_copy_gets_the_setting_of_its_original(
    like: str, file: str, corpus: str, root: Path, seqline
) -> None:
    seqline(root, "add", "corpus", file)
    assert seqline(root, "add", "model", "mine", "--like", like).status == 0
    assert seqline(root, "add", "run", "mine", corpus).status == 0
    result = seqline(root, "add", "run", like, corpus)
    assert result.status == 0
    settings = content(root)["settings"]
    assert settings[f"{corpus}_mine"] == settings[f"{corpus}_{like}"]
    assert seqline(root, "check").status == 0


def test_a_copy_that_is_fitted_by_counting_gets_one_run(root: Path, seqline) -> None:
    seqline(root, "add", "corpus", "reviews.csv")
    seqline(root, "add", "model", "mine", "--like", "naive_bayes")
    result = seqline(root, "add", "run", "mine", "reviews")
    assert (result.status, result.err) == (0, "")
    assert content(root)["settings"]["reviews_mine"]["optim"] is None
    assert "reviews_mine-2" not in content(root)["runs"]


def test_a_second_run_has_the_block_of_the_first(root: Path, seqline) -> None:
    seqline(root, "add", "model", "my_family")
    seqline(root, "add", "corpus", "stories.txt")
    block = {"window": 2, "embedding": 5, "hidden": 6, "dropout": 0.5}
    arguments = ["add", "run", "my_family", "stories", "--model", yaml.safe_dump(block)]
    result = seqline(root, *arguments, "--setting", "first")
    assert (result.status, result.err) == (0, "")
    assert "guessed" not in result.out
    seqline(root, "add", "run", "my_family", "stories", "--setting", "second")
    settings = content(root)["settings"]
    assert settings["first"]["model"] == settings["second"]["model"] == block


def test_model_replaces_the_sizes_of_a_preset_s_family(root: Path, seqline) -> None:
    seqline(root, "add", "corpus", "reviews.csv")
    block = "{embedding: 3, hidden: 4, layers: 2, dropout: 0.0}"
    result = seqline(root, "add", "run", "mlp_classifier", "reviews", "--model", block)
    assert (result.status, result.err) == (0, "")
    assert content(root)["settings"]["reviews_mlp_classifier"]["model"] == yaml.safe_load(block)


def test_sizes_that_cannot_be_guessed_are_asked_for_in_one_line(root: Path, seqline) -> None:
    seqline(root, "add", "corpus", "stories.txt")
    seqline(root, "add", "model", "my_family")
    replace(root, "    hidden: int\n", "    hidden: tuple[int, ...]\n")
    before = (root / "params.yaml").read_bytes()
    result = seqline(root, "add", "run", "my_family", "stories")
    assert (result.status, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert result.err.rstrip().endswith(
        "Run `seqline add run my_family stories --model '{window: WINDOW, embedding: EMBEDDING, "
        "hidden: HIDDEN, dropout: DROPOUT}'`."
    )
    assert (root / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def hidden(self", "def hidden self", "FAMILY: got my_family.py, with SyntaxError: "),
        ("class Config", "class Configuration", "FAMILY: got my_family.py, with NameError: "),
        ("@dataclass(frozen=True, kw_only=True, slots=True)\n", "", "with no dataclass Config; "),
        ("def project(", "def logits(", "with a Model with the methods of no task; expected a fin"),
    ],
)
def test_an_unfinished_family_is_refused_in_one_line_and_not_completed(
    old: str, new: str, message: str, root: Path, seqline
) -> None:
    seqline(root, "add", "corpus", "stories.txt")
    seqline(root, "add", "model", "my_family")
    replace(root, old, new)
    result = seqline(root, "add", "run", "my_family", "stories")
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    names = seqline(root, "completion", "--names", "addable-families").out.split()
    assert "recurrent_lm" in names
    assert ("my_family" in names) == ("no dataclass" in message)


def test_a_family_for_other_corpora_is_refused_with_those_that_fit(root: Path, seqline) -> None:
    seqline(root, "add", "corpus", "reviews.csv")
    seqline(root, "add", "model", "my_family")
    seqline(root, "add", "model", "mine", "--task", "classification")
    result = seqline(root, "add", "run", "my_family", "reviews")
    assert result.status == 2
    assert "FAMILY: got my_family; expected one of " in result.err
    assert ", mine for reviews, which is labelled" in result.err
    names = seqline(root, "completion", "--names", "addable-families").out.split()
    assert {"my_family", "mine", "text_cnn"} <= set(names)
    assert user_family.names(root, ["labelled"]) == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["My-Model.py"], "FAMILY: got My-Model.py; expected a name of small letters, digits and "),
        (["My-Model.py"], "For example my_model."),
        (["pipeline/models/mine.py"], "For example mine."),
        (["2fast"], "For example fast."),
        (["class"], "FAMILY: got class; expected a name of small letters"),
        (["../mine"], "For example mine."),
        ([""], "FAMILY: got "),
        (
            ["text_cnn"],
            "FAMILY: got text_cnn, which is pipeline/models/text_cnn.py; expected a",
        ),
        (["there"], "FAMILY: got there, which is pipeline/models/there.py; expected a new name"),
        (["mine", "--task", "clasification"], "Did you mean 'classification'?"),
        (["mine", "--like", "text_cn"], "Did you mean 'text_cnn'?"),
        (["mine", "--like", "text_cnn", "--task", "classification"], "not allowed with argument"),
    ],
)
def test_a_family_that_cannot_be_is_refused_and_nothing_written(
    arguments: list[str], message: str, root: Path, seqline
) -> None:
    folder = root / "pipeline/models"
    (folder / "there.py").write_text("x = 1\n")
    result = seqline(root, "add", "model", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert [file.name for file in folder.iterdir()] == ["there.py"]
    assert (folder / "there.py").read_text() == "x = 1\n"


def test_a_project_that_python_does_not_import_from_is_refused(project: Path, seqline) -> None:
    """As another clone of the project, in the environment of the first."""
    result = seqline(project, "add", "model", "mine")
    assert (result.status, result.out) == (2, "")
    assert f"seqline: got the code of {ROOT}; expected that of {project}. Activate" in result.err
