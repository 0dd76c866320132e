"""`seqline translate`, `seqline generate` and `seqline classify`: a trained run, tried on the
user's own text."""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from pipeline.cli.input_text import STDIN, Line
from pipeline.core import config, params, tables
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError, printable, refuse
from pipeline.dag import paths
from pipeline.inference import BATCH, EMPTY, Attention, Session, load_run
from pipeline.predictions.classification import NO_LABEL, Classifier

T = TypeVar("T")
_NAMED = 10  # line numbers that a message names


def together(root: Path, names: list[str]) -> Session:
    """The runs as one ensemble, searched as the first is; UserError if their vocabularies are not
    the same."""
    [first, *others] = [opened(root, name) for name in names]
    runs = config.section(root / "params.yaml", "runs")
    vocabularies = {
        name: paths.option_path(root, "predict", name, runs[name], "vocab") for name in names
    }
    for name, vocab in vocabularies.items():
        if vocab != vocabularies[names[0]]:
            shared = vocabularies[names[0]].relative_to(root)
            raise refuse(
                f"--run {name}",
                f"the vocabulary {vocab.relative_to(root)}",
                f"{shared}, as run {names[0]} has",
            )
    return first.ensemble(others) if others else first


def opened(root: Path, name: str) -> Session:
    """The trained run called `name` in params.yaml; UserError if it is unknown or not trained
    yet."""
    model, vocab, search = found(root, name)
    return Session.open(model, vocab, search, params.compute(root / "params.yaml").device)


def found(root: Path, name: str) -> tuple[Path, Path, dict[str, Any] | None]:
    """The folders of the run's model and vocabulary, and its `search:`; errors as `opened`."""
    path = root / "params.yaml"
    runs = config.section(path, "runs")
    if name not in runs:
        raise refuse("--run", name, "one of " + ", ".join(runs))
    model, vocab = (
        paths.option_path(root, "predict", name, runs[name], option)
        for option in ("model", "vocab")
    )
    if not model.exists():
        raise refuse(
            f"--run {name}",
            f"no {model.relative_to(root)}",
            "a trained run",
            "Run `dvc repro`, or `dvc pull`.",
        )
    trained, asked = load_run(model, runs[name]["search"]).corpus, runs[name]["corpus"]
    if trained != asked:
        raise refuse(
            f"--run {name}",
            f"a model of {trained}",
            f"one of {asked}, as params.yaml says",
            "Run `dvc repro`.",
        )
    return model, vocab, runs[name]["search"]


def classify(root: Path, name: str, lines: Iterable[Line]) -> None:
    """Print the likeliest label of each text with its probability; a blank line for a blank line,
    as a warning says."""
    model, vocab, _ = found(root, name)
    classifier = Classifier.open(model, vocab, params.compute(root / "params.yaml").device)
    blank = []
    answers = Answers(lines, classifier.classify)
    for line, answer in answers:
        if answer is None:
            print()
        elif answer is NO_LABEL:
            blank.append(line)
            print()
        else:
            print(f"{math.exp(answer.log_prob):.4f}  {printable(answer.text)}")
    if blank:
        where = "TEXT" if blank[0].number is None else f"{STDIN}, {_numbers(blank)}"
        print(f"seqline: {where}: a text without words has no label", file=sys.stderr)
    answers.finish()


def translate(
    session: Session,
    lines: Iterable[Line],
    n_best: int | None,
    prefix: str | None,
    heatmap: Path | None,
) -> None:
    """Print the best answer to each text, or the `n_best` with their log-probabilities; draw where
    the model looked.

    Every answer begins with `prefix`, where there is one. For a blank line, and for one that cannot
    be read, there is a blank line in place of each answer, so that lines can be counted."""
    session.translate([], n_best)  # refuse options that fit no text before the first is read
    if prefix is not None:
        session.encode_prefixes([prefix])
    if heatmap is not None:
        _translate_one(session, list(lines), n_best, prefix, heatmap)
        return

    answers = Answers(
        lines, lambda texts: session.translate(texts, n_best, prefix and [prefix] * len(texts))
    )
    for _, hypotheses in answers:
        if hypotheses is None or hypotheses[0] is EMPTY:
            print("\n" * ((n_best or 1) - 1))
        elif n_best is None:
            print(printable(hypotheses[0].text))
        else:
            print(
                "\n".join(
                    f"{answer.log_prob:9.4f}  {printable(answer.text)}" for answer in hypotheses
                )
            )
    answers.finish()


def _translate_one(
    session: Session, lines: list[Line], n_best: int | None, prefix: str | None, heatmap: Path
) -> None:
    if len(lines) != 1 or n_best is not None:
        raise refuse("--heatmap", "more than one answer", "one text and no --n-best")
    if heatmap.suffix != ".png":
        raise refuse("--heatmap", str(heatmap), "a file that ends in .png")
    text = lines[0].required()
    [(answer, attention)] = session.attention([text], None if prefix is None else [prefix])
    draw(attention, heatmap)
    print(printable(answer.text))


class Answers(Generic[T]):
    """Lines with the answers to them, a batch at a time; None for a line that cannot be answered.

    One bad line does not keep the others from their answers: `finish`, called at the end, raises
    UserError for the first."""

    def __init__(self, lines: Iterable[Line], answer: Callable[[list[str]], list[T]]) -> None:
        self._lines, self._answer = lines, answer
        self._bad: list[Line] = []

    def __iter__(self) -> Iterator[tuple[Line, T | None]]:
        lines = iter(self._lines)
        while batch := list(itertools.islice(lines, BATCH)):
            good = [line for line in batch if line.text is not None]
            answers = iter(self._answered(good))
            for line in batch:
                if line.text is None:
                    self._bad.append(line)
                yield line, next(answers) if line.text is not None else None

    def finish(self) -> None:
        """Raise the error of the first line that could not be answered, naming the others."""
        if not self._bad:
            return
        assert self._bad[0].error is not None
        others = f" Not answered either: {_numbers(self._bad[1:])}." if len(self._bad) > 1 else ""
        raise UserError(f"{self._bad[0].error}{others}")

    def _answered(self, lines: Sequence[Line]) -> list[T | None]:
        """The answers to a batch; one by one if one of the texts is refused."""
        try:
            return list(self._answer([line.required() for line in lines]))
        except UserError as error:
            if len(lines) != 1:
                return [answer for line in lines for answer in self._answered([line])]
            self._bad.append(lines[0].refused(error))
            return [None]


def _numbers(lines: Sequence[Line]) -> str:
    """`line 2`, or `lines 2, 5 and 9`; of many the first ones."""
    numbers = [str(line.number) for line in lines]
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    if len(numbers) > _NAMED:
        return f"lines {', '.join(numbers[:_NAMED])} and {len(numbers) - _NAMED} more"
    return f"lines {', '.join(numbers[:-1])} and {numbers[-1]}"


def draw(attention: Attention, out: Path) -> None:
    """The weights as a PNG at `out`, all of a model's heads in one figure, as the report draws
    them."""
    from pipeline.report.attention import heatmap

    rows = [
        {
            "row": 0,
            "name": name,
            "columns": attention.columns,
            "rows": attention.rows,
            "weights": weights.ravel(),
        }
        for name, weights in attention.weights.items()
    ]
    with atomic_file(out) as beside:
        heatmap(pa.Table.from_pylist(rows, tables.ATTENTION), 0, beside)
