"""Guesses about the user's own file, zip or folder: its format, columns and splits.

Languages and labels are recognized by the names of columns and files alone."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.config import nearest
from pipeline.core.errors import describe_error, refuse
from pipeline.corpora import open_file, read_lines
from pipeline.download import own

_ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_SEPARATORS = (",", ";", "\t", "|")
_ROWS = 100  # that guesses look at

_SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev", "development"),
    "test": ("test", "testing"),
}
_POLARITY = {"positive": ("pos", "positive"), "negative": ("neg", "negative")}
_ABOUT = frozenset(
    ["readme", "license", "licence", "about", "citation", "notice", "changelog", "copying"]
)
_SOURCE, _TARGET = ("source", "src"), ("target", "tgt", "trg")
_PREMISE = ("premise", "sentence1", "text1", "text_a", "sentence_a")
_HYPOTHESIS = ("hypothesis", "sentence2", "text2", "text_b", "sentence_b")
_TEXT = (
    *("text", "sentence", "review", "comment", "content", "body", "message", "tweet", "document"),
    *("article", "sms", "headline", "question", "utterance", "phrase", "line", "title"),
)
_LABEL = (
    *("label", "labels", "class", "category", "sentiment", "polarity", "rating", "stars", "topic"),
    *("gold_label", "intent", "emotion", "target", "score"),
)
# Codes of ISO 639-1 that are no usual names of columns (id, no, is, so), and names.
_LANGUAGE_WORDS = """
ar bg bn cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy it ja ka kk km kn ko lo lt lv
mk ml mn mr ms my ne nl pa pl ps pt ro ru si sk sl sq sr sv sw ta te th tl tr uk ur uz vi zh
arabic bengali bulgarian chinese croatian czech danish dutch english estonian finnish french german
greek hebrew hindi hungarian italian japanese korean latin latvian lithuanian norwegian persian
polish portuguese romanian russian slovak slovenian spanish swedish tamil thai turkish ukrainian
urdu vietnamese
"""
_LANGUAGES = frozenset(_LANGUAGE_WORDS.split())


@dataclass(frozen=True, slots=True)
class Guess:
    """`format` and `read` of a corpus; the columns that a table has, and remarks for the user."""

    format: str
    read: dict[str, Any]
    columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


@contextmanager
def raw_folder(path: str, where: str) -> Iterator[tuple[Path, list[str]]]:
    """A folder with the files that the download stage writes, and their names; an archive is
    unpacked for the length of the block."""
    names = sorted(name for name, _ in own.contents(path, where))
    given = Path(path)
    if given.is_dir():
        yield given, names
    elif names == [given.resolve().name]:
        yield given.resolve().parent, names
    else:
        with TemporaryDirectory() as folder:
            own.copy(path, where, Path(folder))
            yield Path(folder), names


def guess(folder: Path, names: Sequence[str], columns: dict[str, str]) -> Guess:
    """Guess how the files of `folder` are read. `columns`: those that the user named, by part.

    UserError if it cannot be guessed, with the choices."""
    everything, names = names, [name for name in names if not _ABOUT & set(_words(name))] or names
    formats = {name: _ENDINGS.get(Path(name).suffix.lower()) for name in names}
    tables = Counter(kind for kind in formats.values() if kind)
    if tables:
        chosen = tables.most_common(1)[0][0]
        files = [name for name in names if formats[name] == chosen]
        return _table(folder, chosen, files, everything, columns)

    parallel = _parallel(names)
    if parallel and not columns:
        pairs, languages = parallel
        read, notes = _splits(sorted(pairs))
        named = {split: _sides(stems, pairs, languages) for split, stems in read.items()}
        taken = [name for pair in pairs.values() for name in pair.values()]
        notes += [
            *_ignored(everything, taken),
            f"translation from {languages[0]} to {languages[1]}",
        ]
        return Guess("parallel_text", {"files": named}, (), notes)

    if columns or _has_tabs(folder, names[0]):
        return _table(folder, "tsv", list(names), everything, columns)
    texts, notes = _splits(names)
    notes += _ignored(everything, names)
    labels = {name: _label(name) for name in names}
    if set(labels.values()) == set(_POLARITY):
        labelled = {
            split: {label: [name for name in files if labels[name] == label] for label in _POLARITY}
            for split, files in texts.items()
        }
        return Guess("labelled_lines", {"files": labelled}, (), notes)
    return Guess("text_lines", {"files": texts, "benchmarks": None}, (), notes)


def _table(
    folder: Path, kind: str, files: list[str], names: Sequence[str], given: dict[str, str]
) -> Guess:
    """Guess the columns of files with named columns, by the first file."""
    first = files[0]
    separator = ""
    if kind in ("csv", "tsv"):
        kind, separator, cells = _delimited(folder, first, kind)
        cells = [cell.strip() for cell in cells]  # as in `tabular.delimited`
    else:
        cells = (_keys if kind == "jsonl" else _fields)(folder, first)

    columns: dict[str, Any] = dict(given)
    are_numbers = all(column.isascii() and column.isdecimal() for column in given.values())
    if given and separator and are_numbers and not set(given.values()) <= set(cells):
        columns = {part: int(column) for part, column in given.items()}
    else:
        _check_given(given, cells)
        if set(given) <= {"label"}:
            columns = _parts(cells, given.get("label"))
    if not columns:
        shown = ", ".join(cell[:30] for cell in cells[:12])
        todo = "Name them: --source A --target B, or --text A --label B, or --text A, or "
        todo += "--premise A --hypothesis B --label C"
        todo += "; by numbers from 0 if the file has no heading." if separator else "."
        raise refuse(first, f"the columns {shown}", "names that tell what is in them", todo)

    split, notes = _splits(files)
    read: dict[str, Any] = {"files": split, "columns": columns}
    if kind == "csv":
        read["separator"] = separator
    notes += _ignored(names, files)
    if set(columns) == {"text"} and not given and len(cells) > 1:
        notes.append(
            "no column of labels was recognized; for classification remove the block, and add the "
            "corpus again with --label COLUMN"
        )
    return Guess(kind, read, tuple(cells), notes)


def _check_given(given: dict[str, str], cells: Sequence[str]) -> None:
    """Refuse a column that the table does not have; a dot leads into a column of columns."""
    tops = {cell.partition(".")[0] for cell in cells}
    for part, column in given.items():
        if column not in cells and column.partition(".")[0] not in tops:
            shown = ", ".join(cell[:30] for cell in cells[:12])
            raise refuse(f"--{part}", column, f"one of the columns {shown}", nearest(column, cells))


def _splits(names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Files of each split by the words in their names, and remarks; all files under `all` if they
    are of no split."""
    by_split: dict[str, list[str]] = {}
    for name in names:
        words = set(_words(name))
        split = next((split for split, known in _SPLITS.items() if words & set(known)), "all")
        by_split.setdefault(split, []).append(name)

    notes = []
    if "train" not in by_split or len(by_split) == 1:
        return {"all": list(names)}, []
    if "all" in by_split:
        notes.append(f"not read, as they are of no split: {', '.join(by_split.pop('all'))}")
    if "test" not in by_split and "valid" in by_split:
        by_split["test"] = by_split.pop("valid")
        notes.append(f"{', '.join(by_split['test'])} serves as test; a part of train is valid")
    if "test" not in by_split:
        return {"all": by_split["train"]}, notes
    return {split: by_split[split] for split in _SPLITS if split in by_split}, notes


def _ignored(names: Sequence[str], used: Sequence[str]) -> list[str]:
    unread = [name for name in names if name not in used]
    return [f"not read: {', '.join(unread[:10])}"] if unread else []


def _parallel(names: Sequence[str]) -> tuple[dict[str, dict[str, str]], tuple[str, str]] | None:
    """Files by stem and language, and both languages, if names are as train.de and train.en."""
    files: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, language = name.rpartition(".")
        if language.lower() in _LANGUAGES and stem:
            files.setdefault(stem, {})[language] = name
    languages = sorted({language for pair in files.values() for language in pair})
    complete = {stem: pair for stem, pair in files.items() if len(pair) == 2}
    if len(languages) != 2 or not complete:
        return None
    return complete, (languages[0], languages[1])


def _sides(
    stems: list[str], files: dict[str, dict[str, str]], languages: tuple[str, str]
) -> dict[str, list[str]]:
    sides = zip(("source", "target"), languages, strict=True)
    return {side: [files[stem][language] for stem in stems] for side, language in sides}


def _words(name: str) -> list[str]:
    return re.split("[^a-z]+", name.lower())


def _label(name: str) -> str | None:
    """The label that the words of a file's name are; None if they are none, or both."""
    words = set(_words(name))
    labels = [label for label, known in _POLARITY.items() if words & set(known)]
    return labels[0] if len(labels) == 1 else None


def _parts(cells: Sequence[str], given_label: str | None) -> dict[str, Any]:
    """Column of each part by the names of the columns, and the label's if that is given; empty if
    they tell nothing."""
    if given_label is not None:
        return _with_text(cells, given_label)
    source, target = (_first(cells, known) for known in (_SOURCE, _TARGET))
    if source and target:
        return {"source": source, "target": target}
    languages = [cell for cell in cells if _language(cell)]
    if len(languages) == 2:
        return {"source": languages[0], "target": languages[1]}

    return _with_text(cells, None)


def _with_text(cells: Sequence[str], label: str | None) -> dict[str, Any]:
    """Columns of a text, or of two, and of their label, which may be given; empty without one."""
    others = [cell for cell in cells if cell != label]
    pair = [_exactly(others, names) for names in (_PREMISE, _HYPOTHESIS)]
    text = _first(others, _TEXT)
    label = label or _first([cell for cell in cells if cell not in (text, *pair)], _LABEL)
    if all(pair) and label:
        return {"premise": pair[0], "hypothesis": pair[1], "label": label}
    if text is None:
        return {}
    return {"text": text} if label is None else {"text": text, "label": label}


def _first(cells: Sequence[str], known: Sequence[str]) -> str | None:
    """The column whose name is, or else has as a word, the first of the known ones."""
    for matching in (_is, _has):
        for word in known:
            for cell in cells:
                if matching(cell, word):
                    return cell
    return None


def _exactly(cells: Sequence[str], known: Sequence[str]) -> str | None:
    return next((cell for word in known for cell in cells if _is(cell, word)), None)


def _is(cell: str, word: str) -> bool:
    return cell.strip().lower() == word


def _has(cell: str, word: str) -> bool:
    """Return whether an identifier, such as reviewText or review_text, has the word."""
    words = re.findall("[A-Z]?[a-z]+", cell) if re.fullmatch(r"[\w.-]+", cell) else []
    return word in map(str.lower, words)


def _language(cell: str) -> bool:
    words = re.split("[^a-z]+", cell.strip().lower())
    return len(words) <= 3 and len(_LANGUAGES & set(words)) == 1


def _lines(folder: Path, name: str) -> list[str]:
    texts = (text for batch in read_lines(folder, name) for text in batch.to_pylist())
    return list(islice((text for text in texts if text.strip()), _ROWS))


def _has_tabs(folder: Path, name: str) -> bool:
    counts = {text.count("\t") for text in _lines(folder, name)}
    return len(counts) == 1 and 0 not in counts


def _delimited(folder: Path, name: str, kind: str) -> tuple[str, str, list[str]]:
    """Format, separator and cells of the first row. The separator is the one that divides most
    rows into as many cells as the first one, and that into most."""
    lines = [f"{line}\n" for line in _lines(folder, name)]
    if not lines:
        raise refuse(str(folder / name), "blank lines only", "a heading and rows")
    choices = _SEPARATORS if kind == "csv" else ("\t",)
    parsed = {separator: _parsed(lines, separator) for separator in choices}
    separator = max(choices, key=lambda choice: _regular(parsed[choice]))
    rows = parsed[separator]

    # Without quotation marks around cells, a tab always separates.
    quoted = any(re.search(f'(^|{re.escape(separator)})"', line) for line in lines)
    if separator == "\t" and not (quoted and _regular(rows)[0] == 1):
        return "tsv", separator, lines[0].rstrip("\n").split("\t")
    return "csv", separator, rows[0] if rows else []


def _parsed(lines: Sequence[str], separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    with suppress(csv.Error):  # also of a row that the sample cuts off
        rows.extend(csv.reader(lines, delimiter=separator, strict=True))
    return rows


def _regular(rows: Sequence[Sequence[str]]) -> tuple[float, int]:
    width = len(rows[0]) if rows else 0
    if width < 2:
        return 0.0, width
    return sum(len(row) == width for row in rows) / len(rows), width


def _keys(folder: Path, name: str) -> list[str]:
    """Keys of the objects of a file of JSON Lines; those of an object in it by a dotted path."""
    keys: dict[str, None] = {}
    for line in _lines(folder, name):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            for key, value in record.items():
                inner = value if isinstance(value, dict) else {}
                keys |= dict.fromkeys([f"{key}.{part}" for part in inner] or [key])
    if not keys:
        got = "no JSON object in a line"
        raise refuse(str(folder / name), got, "JSON Lines: an object in each line")
    return list(keys)


def _fields(folder: Path, name: str) -> list[str]:
    """Columns of a Parquet file; those of a column of columns by a dotted path."""
    path = str(folder / name)
    with open_file(folder, name) as file:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise refuse(path, describe_error(error), "a Parquet file") from None
    return [
        f"{column.name}.{part.name}" if part else column.name
        for column in schema
        for part in (column.type if pa.types.is_struct(column.type) else [None])
    ]
