"""A trained run of params.yaml, and its answers to the user's own texts."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.cli.input_text import Line
from pipeline.cli.run_names import run_of
from pipeline.core import config, params
from pipeline.core.errors import UserError, refuse
from pipeline.dag import paths
from pipeline.inference import BATCH, load_run

T = TypeVar("T")
_NAMED = 10  # line numbers that a message names


def run_folders(
    root: Path, name: str, where: str = "--run"
) -> tuple[Path, Path, dict[str, Any] | None]:
    """The folders of the run's model and vocabulary, and its `search:`; UserError if the run is
    unknown or not trained yet.

    `where`: what gave the name, in messages."""
    runs = config.section(root / "params.yaml", "runs")
    name = run_of(root, name, where)
    model, vocab = (
        paths.option_path(root, "predict", name, runs[name], option)
        for option in ("model", "vocab")
    )
    if not model.exists():
        raise refuse(
            f"{where} {name}",
            f"no {model.relative_to(root)}",
            "a trained run",
            "Run `dvc repro`, or `dvc pull`.",
        )
    # params.yaml may have changed since the training.
    search = params.run(root / "params.yaml", name).search
    trained_corpus = load_run(model, search).corpus
    corpus = runs[name]["corpus"]
    if trained_corpus != corpus:
        raise refuse(
            f"{where} {name}",
            f"a model of {trained_corpus}",
            f"one of {corpus}, as params.yaml says",
            "Run `dvc repro`.",
        )
    return model, vocab, search


class PredictionStream(Generic[T]):
    """Lines with the answers to them, a batch at a time. A line that cannot be answered comes with
    its error, and with None for an answer.

    One bad line does not keep the others from their answers: `finish`, called at the end, raises
    UserError for the first."""

    def __init__(self, lines: Iterable[Line], answer: Callable[[list[str]], list[T]]) -> None:
        self._lines, self._answer = lines, answer
        self._bad: list[Line] = []

    def __iter__(self) -> Iterator[tuple[Line, T | None]]:
        lines = iter(self._lines)
        while batch := list(itertools.islice(lines, BATCH)):
            answered = iter(self._answered([line for line in batch if line.text is not None]))
            for line in batch:
                result = (line, None) if line.text is None else next(answered)
                if result[0].error is not None:
                    self._bad.append(result[0])
                yield result

    def finish(self) -> None:
        """Raise the error of the first line that could not be answered, naming the others."""
        if not self._bad:
            return
        assert self._bad[0].error is not None
        also_failed = f" Also failed: {line_numbers(self._bad[1:])}." if len(self._bad) > 1 else ""
        raise UserError(f"{self._bad[0].error}{also_failed}")

    def _answered(self, lines: Sequence[Line]) -> list[tuple[Line, T | None]]:
        """The answers to a batch; one by one if one of the texts is refused."""
        try:
            answers = self._answer([line.required() for line in lines])
            return list(zip(lines, answers, strict=True))
        except UserError as error:
            if len(lines) == 1:
                return [(lines[0].refused(error), None)]
            return [result for line in lines for result in self._answered([line])]


def line_numbers(lines: Sequence[Line]) -> str:
    """`line 2`, or `lines 2, 5 and 9`; of many the first ones."""
    numbers = [str(line.number) for line in lines]
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    if len(numbers) > _NAMED:
        return f"lines {', '.join(numbers[:_NAMED])} and {len(numbers) - _NAMED} more"
    return f"lines {', '.join(numbers[:-1])} and {numbers[-1]}"
