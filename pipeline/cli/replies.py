"""The loop of the commands that answer texts: the prompt on a terminal, many lines, and the form of
the answers."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.cli import input_text, prompt
from pipeline.cli.input_text import Line
from pipeline.cli.prediction_stream import PredictionStream
from pipeline.cli.unknown_words import SmallCorpusHint, UnknownWords
from pipeline.core import atomic
from pipeline.core.errors import UserError, printable, refuse
from pipeline.predictor import unknown_words, vocabulary
from pipeline.runs.trained import NamedRun
from pipeline.text.encode import Codec

T = TypeVar("T")
Print = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Replies(Generic[T]):
    """The parts of a command that answers texts.

    `answer(texts)` gives an answer to each text. `plain(line, answer)` is its text, without a line
    break at the end; the answer is None if there is none. `rows(answer)` are the objects of
    `--json`. `runs`: those that answer; the first one's vocabulary is that of all. `warn` is called
    after the last answer."""

    command: str
    runs: Sequence[NamedRun]
    answer: Callable[[list[str]], Sequence[T]]
    plain: Callable[[Line, T | None], str]
    rows: Callable[[T], list[dict[str, Any]]]
    warn: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """The runs, in messages."""
        return _name(self.runs)


def reply(root: Path, arguments: argparse.Namespace, replies: Replies[T]) -> None:
    """Answer the texts of the command line, the file or standard input, one after another; at the
    end raise UserError for lines that could not be answered.

    On a terminal, without a text, there is a prompt, where a mistake is followed by the next
    text."""
    text, file, output = arguments.text, arguments.file, arguments.output
    if text is not None and file is not None:
        raise refuse("--file", f"{file}, and a text", "one of them")
    codec = vocabulary(replies.runs[0].task, replies.runs[0].files.vocab)
    hint = SmallCorpusHint(root, replies.runs[0], codec)

    if text is None and file is None and output is None and prompt.is_possible():
        for line in prompt.lines(root, replies.command, f"Texts for {replies.name}, one a line."):
            try:
                _answer([line], replies, codec, hint, arguments.json, print)
            except UserError as error:
                print(f"seqline: {error}", file=sys.stderr)
        return

    lines = input_text.texts(text, file)
    if output is None:
        _answer(lines, replies, codec, hint, arguments.json, print)
        return
    with _written(output) as print_line:
        _answer(lines, replies, codec, hint, arguments.json, print_line)


def warn_of(root: Path, runs: Sequence[NamedRun], lines: Sequence[Line]) -> None:
    """Print on stderr which words of the lines the runs do not know, if there are any."""
    codec = vocabulary(runs[0].task, runs[0].files.vocab)
    unknown = UnknownWords(_name(runs))
    texts = [line.required() for line in lines]
    for line, words in zip(lines, unknown_words(codec, texts), strict=True):
        unknown.add(line, words)
    if unknown.warn():
        SmallCorpusHint(root, runs[0], codec).print_once()


def _name(runs: Sequence[NamedRun]) -> str:
    return " with ".join(run.name for run in runs)


def _answer(
    lines: Iterable[Line],
    replies: Replies[T],
    codec: Codec | None,
    hint: SmallCorpusHint,
    as_json: bool,
    print_line: Print,
) -> None:
    def answered(texts: list[str]) -> list[tuple[T, Sequence[str]]]:
        return list(zip(replies.answer(texts), unknown_words(codec, texts), strict=True))

    unknown = UnknownWords(replies.name)
    stream = PredictionStream(lines, answered)
    for line, result in stream:
        answer, words = (None, []) if result is None else result
        unknown.add(line, words)
        if not as_json:
            print_line(replies.plain(line, answer))
            continue
        rows = [] if answer is None else replies.rows(answer)
        print_line(_json(line, rows, words))

    replies.warn()
    if unknown.warn():
        hint.print_once()
    stream.finish()


def _json(line: Line, rows: Sequence[dict[str, Any]], words: Sequence[str]) -> str:
    record = {
        "line": line.number,
        "input": line.text,
        "outputs": rows,
        "unknown_words": words,
        "error": None if line.error is None else str(line.error),
    }
    text = json.dumps(record, ensure_ascii=False)
    # Escape all but ASCII if there are characters that control a terminal.
    return text if printable(text) == text else json.dumps(record)


@contextmanager
def _written(file: Path) -> Iterator[Print]:
    """Yield a function that adds a line to the file, which is replaced at the end in one step: also
    after UserError, which is about single lines."""
    if file.is_dir() or not file.parent.is_dir():
        raise refuse("--output", str(file), "the name of a file in a folder that exists")
    lines: list[str] = []
    try:
        yield lines.append
    except UserError:
        if lines:
            _write(file, lines)
        raise
    _write(file, lines)


def _write(file: Path, lines: Sequence[str]) -> None:
    atomic.write_file(file, "".join(f"{line}\n" for line in lines).encode())
