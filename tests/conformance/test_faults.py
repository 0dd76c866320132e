"""What the checks of a new family find, and the command: the template, and the template with one
fault each."""

import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CommandResult

from pipeline.conformance import Case, cases, examine, guess, template
from pipeline.core import config
from pipeline.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(template.__file__).read_text(encoding="utf-8")
GUIDE = (ROOT / "docs/own_model.md").read_text(encoding="utf-8")
BLOCK = {"window": 3, "embedding": 8, "hidden": 16, "dropout": 0.1}
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "a default": (
        "    dropout: float\n",
        "    dropout: float = 0.1\n",
        "settings",
        "Config: got defaults of dropout; expected none.",
    ),
    "no class Config": (
        "Config",
        "Settings",
        "settings",
        "my_family.py: got no class Config; expected a frozen dataclass of that name.",
    ),
    "a Config that is not frozen": (
        "frozen=True, ",
        "",
        "settings",
        "Config: got a class that can be changed; expected @dataclass(frozen=True",
    ),
    "no method": (
        "    def project(",
        "    def readout(",
        "methods",
        "Model: got no project(hidden_NH); expected contracts.LanguageModel or",
    ),
    "another parameter": (
        "    def reorder(self, state: State, rows_B",
        "    def reorder(self, state: State, rows",
        "methods",
        "Model: got no reorder(state, rows_B); expected contracts.Decodable, for searches.",
    ),
    "a seen future": (
        "window_BTW = ids_BK.unfold(1, self.window, 1)",
        "window_BTW = ids_BK.roll(-1, 1).unfold(1, self.window, 1)",
        "causality",
        "predictions before a change of token 6: got a difference of",
    ),
    "a state that is dropped": (
        "if state is None else state[0]",
        "",
        "windows",
        "hidden of windows: got a difference of",
    ),
    "a prompt that is read to its last id": (
        "torch.arange(1 - self.window, 0, device=last_B.device)",
        "torch.arange(2 - self.window, 1, device=last_B.device)",
        "prompts",
        "step 1 after prompts of 1, 2, 4, 8, 9, 10, 13, 22 ids: got a difference of",
    ),
    "logits in place of log-probabilities": (
        "squeeze(1)).float().log_softmax(-1), after",
        "squeeze(1)).float(), after",
        "shapes",
        "step, the sum of the probabilities: got a difference of",
    ),
    "a changed state": (
        "return (state[0].index_select(0, rows_B),)",
        "return (state[0].copy_(state[0].flip(0)).index_select(0, rows_B),)",
        "states",
        "rows [1, 0]: got a difference of",
    ),
    "random numbers": (
        "x_BTE = self.embedding(window_BTW).flatten(2)",
        "x_BTE = self.embedding(window_BTW).flatten(2)\n"
        "        x_BTE = x_BTE + 0.1 * torch.randn_like(x_BTE)",
        "repeatable",
        "outputs of the same model: got a difference of",
    ),
    "an unused layer": (
        "        self.dropout = Dropout",
        "        self.unused = nn.Linear(3, 4)\n        self.dropout = Dropout",
        "gradients",
        "parameters: got no gradient of unused.weight, unused.bias; expected one of each.",
    ),
    "a state outside of the weights": (
        "return self.dropout(hidden_BTH), ",
        "return self.dropout(hidden_BTH) * self.scale, ",
        "save and load",
        "outputs of the loaded model: got a difference of",
    ),
    "no learning": (
        "return self.dropout(hidden_BTH), ",
        "return self.dropout(hidden_BTH) * 0.001, ",
        "learning",
        "training: got a perplexity of",
    ),
    "an error": (
        "x_BTE = self.embedding(window_BTW).flatten(2)",
        "x_BTE = self.embedding(window_BTW).flatten(1)",
        "shapes",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
}


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Case]:
    """Make the source code the family `my_family`."""

    def install(source: str) -> Case:
        module = types.ModuleType("pipeline.models.my_family")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        names = config.module_names
        monkeypatch.setattr(
            config,
            "module_names",
            lambda package: names(package) + ["my_family"] * (package == "pipeline.models"),
        )
        file = ROOT / "pipeline/models/my_family.py"  # findings name the line of such a file
        exec(compile(source, str(file), "exec"), module.__dict__)
        return Case(family="my_family", task="language_model", block=BLOCK)

    return install


def test_the_template_keeps_its_contracts(family: Callable[[str], Case]) -> None:
    findings = list(examine(family(TEMPLATE)))
    assert {finding.state for finding in findings} == {"ok"}
    assert len(findings) == 11


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_in_one_line(fault: str, family: Callable[[str], Case]) -> None:
    old, new, name, line = FAULTS[fault]
    assert old in TEMPLATE
    source = TEMPLATE.replace(old, new)
    if "self.scale" in new:
        scale = "self.window = config.window\n        self.scale = torch.rand(()).item()\n"
        source = source.replace("self.window = config.window\n", scale)

    findings = {finding.name: finding for finding in examine(family(source))}
    assert findings[name].state == "FAIL"
    assert findings[name].detail.startswith(line)
    assert "\n" not in findings[name].detail
    # What comes first is right.
    before = list(findings)[: list(findings).index(name)]
    assert {findings[check].state for check in before} <= {"ok"}


def test_nothing_is_tried_without_a_model(family: Callable[[str], Case]) -> None:
    source = TEMPLATE.replace("    def project(", "    def readout(")
    states = [finding.state for finding in examine(family(source))]
    assert states == ["ok", "FAIL", *["skip"] * 9]


def test_an_error_in_every_check_is_one_fault(family: Callable[[str], Case]) -> None:
    old, new, _, line = FAULTS["an error"]
    findings = list(examine(family(TEMPLATE.replace(old, new))))
    assert [finding.state for finding in findings] == ["ok", "ok", "FAIL", *["skip"] * 8]
    assert findings[2].detail.startswith(line)
    assert line_of("self.layer(x_BTE)") in findings[2].detail


def line_of(part: str) -> str:
    """The place of the first line of the template with this part, as faults name it."""
    number = TEMPLATE[: TEMPLATE.index(part)].count("\n") + 1
    return f"(my_family.py, line {number})"


def test_a_wrong_shape_is_one_fault_with_the_place_of_the_method(
    family: Callable[[str], Case],
) -> None:
    source = TEMPLATE.replace("(config.hidden, sizes.target)", "(config.hidden, 5)")
    states = [(finding.state, finding.detail) for finding in examine(family(source))]
    assert [state for state, _ in states] == ["ok", "ok", "FAIL", *["skip"] * 8]
    line = "project: got shape (24, 5); expected NV, (24, 10). Return this shape. "
    assert states[2][1] == line + line_of("def project(")


def test_a_model_that_sees_the_future_is_told_what_to_change(family: Callable[[str], Case]) -> None:
    old, new, *_ = FAULTS["a seen future"]
    findings = examine(family(TEMPLATE.replace(old, new)))
    fault = next(finding for finding in findings if finding.state == "FAIL")
    todo = "Let `hidden` at a position read no later id, for example by a mask. "
    assert fault.detail.endswith(f"expected none. {todo}{line_of('def hidden(')}")


def test_a_key_that_a_setting_lacks_is_named_with_its_file(
    project: Path,
    seqline: Callable[..., CommandResult],
    edited: Callable[[Path, str, object], None],
) -> None:
    edited(project, "settings.gru.model.hidden", ...)
    result = seqline(project, "check-model", "recurrent_lm", "--setting", "gru")
    fault, _, last = result.out.splitlines()
    assert fault == (
        "FAIL  settings: params.yaml: settings.gru.model.hidden: got nothing; expected a whole "
        "number. Add the key."
    )
    assert last == "pipeline/models/recurrent_lm.py: 1 fault as a model of language_model"


def test_checks_continue_after_an_error_that_only_one_has(family: Callable[[str], Case]) -> None:
    source = TEMPLATE.replace("        return (state[0].index", "        return (lost[0].index")
    assert source != TEMPLATE
    findings = {finding.name: finding for finding in examine(family(source))}
    assert findings["states"].detail.startswith("NameError: name 'lost' is not defined")
    failed = [name for name, finding in findings.items() if finding.state != "ok"]
    assert failed == ["states"]


def test_a_case_without_a_run_is_guessed_from_the_code(family: Callable[[str], Case]) -> None:
    family(TEMPLATE)
    case = cases.find([ROOT / "params.yaml"], "my_family", None)
    assert (case.task, case.is_guessed) == ("language_model", True)
    assert list(case.block) == ["window", "embedding", "hidden", "dropout"]
    assert isinstance(case.build(), case.model_class)


@pytest.mark.parametrize("name", ["seq2seq", "text_cnn", "transformer", "bert"])
def test_blocks_are_guessed_for_copies_of_families(name: str) -> None:
    config_class = config.named_module("pipeline.models", name, "FAMILY").Config
    files = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
    block = guess.block(files, config_class)
    assert block is not None
    config.load(config_class, block, "model")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "    hidden: int\n",
            "    hidden: tuple[int, ...]\n",
            "FAMILY: got my_family; expected a family of a run in params.yaml or in a preset. Or "
            "run `seqline check-model my_family --model '{window: WINDOW, embedding: EMBEDDING, "
            "hidden: HIDDEN, dropout: DROPOUT}' --task language_model`.",
        ),
        (
            "at_least_one(window=self.window,",
            "at_least_one(window=self.window - self.hidden,",
            "FAMILY: got my_family; expected a family of a run in params.yaml or in a preset. Or "
            "run `seqline check-model my_family --model '{window: WINDOW, ",
        ),
        (
            "    def project(",
            "    def readout(",
            "FAMILY: got my_family with methods of no task; expected a family of a run in "
            "params.yaml or in a preset. Or run `seqline check-model my_family --model '{window: ",
        ),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(
    old: str, new: str, line: str, family: Callable[[str], Case]
) -> None:
    family(TEMPLATE.replace(old, new))
    with pytest.raises(UserError) as refusal:
        cases.find([ROOT / "params.yaml"], "my_family", None)
    assert str(refusal.value).startswith(line)


# The command


@pytest.mark.long
def test_a_stranger_begins_a_family_and_checks_it(tmp_path: Path) -> None:
    """As docs/own_model.md says, in a copy of the project."""
    root = tmp_path / "project"
    for name in ("pipeline", "presets"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", "flow.yaml"):
        shutil.copy(ROOT / name, root)

    program = "from pipeline.cli import main; main()"
    shown = [part.strip("\n") for part in GUIDE.split("```")]
    # The guide shows what each command prints, of the check without its first lines.
    for arguments, beginning in (
        (["add", "model", "my_family"], "wrote pipeline"),
        (["check-model", "my_family"], "ok "),
    ):
        command = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=root,
            env={"PYTHONPATH": str(root), "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert (command.returncode, command.stderr) == (0, "")
        [output] = [part for part in shown if part.startswith(beginning)]
        assert command.stdout.endswith(f"{output}\n")
    lines = command.stdout.splitlines()
    assert lines[-2:] == [
        "my_family keeps the contracts of language_model",
        "next: seqline add run my_family toy_story",
    ]


def test_command_prints_a_line_for_each_check(
    project: Path, seqline: Callable[..., CommandResult]
) -> None:
    block = "{cell: gru, lags: 4, hidden: 8, layers: 1, implementation: fused}"
    result = seqline(project, "check-model", "recurrent_ar", "--model", block)
    assert result.status == 0
    *lines, last = result.out.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    assert last == "recurrent_ar keeps the contracts of series"


def test_command_counts_one_fault_and_names_its_guess(
    project: Path, seqline: Callable[..., CommandResult], family: Callable[[str], Case]
) -> None:
    old, new, _, line = FAULTS["an error"]
    family(TEMPLATE.replace(old, new))
    result = seqline(project, "check-model", "my_family")
    assert result.status == 1
    first, second, *_, fault, skipped, last = result.out.splitlines()
    assert first.endswith("Its methods are those of language_model.")
    assert second.startswith("Checking it with --model '{window: ")
    assert fault.startswith(f"FAIL  shapes: {line}")
    assert skipped.startswith("skip  repeatable, causality, ")
    assert last == "pipeline/models/my_family.py: 1 fault as a model of language_model"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("lstm",), "FAMILY: got lstm; expected one of"),
        (("seq2seq", "--setting", "gru"), "FAMILY: got seq2seq with the setting gru; expected a"),
        (("seq2seq", "--model", "{hidden: }}"), "--model: got {hidden: }}; expected YAML"),
        (("seq2seq", "--model", "32"), "--model: got 32; expected a mapping, such as"),
        (
            ("seq2seq", "--model", "{}", "--task", "translate"),
            "--task: got translate",
        ),
    ],
)
def test_mistakes_of_the_command_are_one_line(
    project: Path, seqline: Callable[..., CommandResult], arguments: tuple[str, ...], line: str
) -> None:
    result = seqline(project, "check-model", *arguments)
    assert result.status == 2
    assert result.err.startswith(f"seqline: {line}")
    assert result.err.count("\n") == 1


def test_case_of_a_run_contains_the_model_of_its_initial_run() -> None:
    case = cases.find([ROOT / "presets/wikitext2.yaml"], "cache_lm", None)
    assert case.component is not None
    assert case.component.family == "recurrent_lm"
    with pytest.raises(UserError, match=r"^FAMILY: got cache_lm; expected a family of a run"):
        cases.find([ROOT / "params.yaml"], "cache_lm", None)
