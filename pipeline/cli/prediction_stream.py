"""Predictions for the lines of an input, a batch at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from pipeline.cli.input_text import Line
from pipeline.core.errors import UserError
from pipeline.inference import BATCH

T = TypeVar("T")
_NAMED = 10  # line numbers that a message names


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
