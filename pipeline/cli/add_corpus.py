"""`seqline add corpus FILE`: inspect the user's own file, and write its block to `params.yaml`."""

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cli import add_run, inspect_source, params_text, validate_corpora
from pipeline.cli.corpus_counts import Counts, count
from pipeline.core import config, params
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import refuse
from pipeline.corpora import kind_of
from pipeline.text.tokens import Text

_MANY_ROWS = 20_000  # from which a smaller share is held out
_MANY_TOKENS = 200_000  # from which words are split into pieces
_FEW_TOKENS = 50_000  # below which words that occur once are kept
_LEAST_OF_LABEL = 200  # rows of the rarest label that a hash divides without losing it
_PROMPT_WORDS = 4
_COUNTING = Text(level="word", lowercase=True, letters_only=False, max_tokens=None)
_ROWS = {
    "text": "texts",
    "pair": "pairs",
    "labelled": "labelled texts",
    "labelled_pair": "labelled pairs",
}


@dataclass(frozen=True, slots=True)
class Added:
    """A new block: its name and text, remarks about what was found, and families for it."""

    name: str
    text: str
    remarks: list[str]
    families: list[str]


def add(
    root: Path, file: str, name: str | None, columns: dict[str, str], keep_case: bool = False
) -> Added:
    """Write the block `corpora.NAME` for the file, zip or folder `file`.

    `columns`: the column of each part, where names do not tell. `keep_case`: texts keep their
    capital letters. UserError for what cannot be read or guessed; then nothing is written."""
    path = root / "params.yaml"
    name = name or _name(file)
    params.check_name("--name", name)
    params_text.refuse_taken(path, "corpora", name, "--name")
    _check_exists(Path(file))
    with inspect_source.raw_folder(file, "FILE") as (raw, names):
        guess = inspect_source.guess(raw, names, columns)
        reader = config.named_module("pipeline.corpora", guess.format, "format")
        read = config.load(reader.Config, guess.read, "read")
        text = dataclasses.replace(_COUNTING, lowercase=not keep_case)
        counts = count(reader, read, raw, text)
    kind = kind_of(reader, read)
    if not counts.rows:
        raise refuse(file, f"no usable row ({_rejects(counts)})", "at least one", "Look at it.")

    block = _block(_path(root, file), guess, kind, counts, name)
    block["text"]["lowercase"] = not keep_case
    comment = f"{counts.rows:,} {_ROWS[kind]} for training or splitting, of `seqline add corpus`"
    lines = params_text.block(name, block, comment)
    families = add_run.families_for(root, kind)  # refuses a broken preset before a block is written
    content = params_text.with_block(path.read_text(encoding="utf-8"), "corpora", lines)
    with atomic_file(path) as partial:
        partial.write_text(content, encoding="utf-8")
        validate_corpora.check(partial, name, files=True)
    remarks = _remarks(file, guess, kind, counts, block)
    return Added(name, "\n".join(lines), remarks, families)


def _check_exists(file: Path) -> None:
    """Refuse a path that does not exist, and suggest the most similar name in its folder."""
    if os.path.lexists(file):
        return
    siblings = sorted(path.name for path in file.parent.iterdir()) if file.parent.is_dir() else []
    todo = config.nearest(file.name, siblings) or "Correct the path."
    raise refuse("FILE", str(file), "a file, zip or folder", todo)


def _name(file: str) -> str:
    stem = Path(os.path.abspath(file)).name.partition(".")[0].lower()
    return re.sub("[^a-z0-9]+", "_", stem).strip("_") or "corpus"


def _path(root: Path, file: str) -> str:
    """The path from the project's root if it is in the project, else the absolute one."""
    absolute = Path(os.path.abspath(file))
    return (
        absolute.relative_to(root.resolve()).as_posix()
        if absolute.is_relative_to(root.resolve())
        else absolute.as_posix()
    )


def _block(
    path: str, guess: inspect_source.Guess, kind: str, counts: Counts, name: str
) -> dict[str, Any]:
    level, size, min_count = _vocabulary(counts)
    return {
        "format": guess.format,
        "source": {"path": path},
        "read": guess.read,
        "limit": None,
        "split": _split(guess, counts),
        "text": {"level": level, "lowercase": True, "letters_only": False, "max_tokens": None},
        "bleu_tokenizer": "auto",
        "vocab": {
            "corpus": name,
            "size": size,
            "min_count": min_count,
            "share": kind != "pair" or level == "bpe",
        },
        "samples": _samples(kind, counts),
    }


def _vocabulary(counts: Counts) -> tuple[str, int | None, int]:
    """Level of the tokens, size of the vocabulary, and the least count of a token in it."""
    # Where a sentence is a single word, characters; or pieces, if the other side has words.
    if counts.spaceless_sides:
        if counts.spaceless_sides < len(counts.letters) and counts.rows >= _MANY_ROWS:
            return "bpe", 8000, 1
        return "char", None, 1
    if not counts.labels and counts.tokens >= _MANY_TOKENS:
        return "bpe", 4000 if counts.tokens < 1_000_000 else 8000, 1
    if counts.tokens < _FEW_TOKENS:
        return "word", None, 1
    return "word", 20_000, 2


def _split(guess: inspect_source.Guess, counts: Counts) -> Any:
    files = guess.read["files"]
    if "all" in files:
        share = 0.1 if counts.rows < _MANY_ROWS else 0.05
        rare = bool(counts.labels) and min(counts.labels.values()) < _LEAST_OF_LABEL
        # Running text is cut into parts; a row of a table stands alone.
        running = guess.format == "text_lines"
        method = "contiguous" if rare or running else "hash"
        return {"method": method, "valid": share, "test": share}
    return "official" if "valid" in files else {"method": "out_of_train", "valid": 0.1}


def _samples(kind: str, counts: Counts) -> list[dict[str, str | None]]:
    if kind == "pair":
        return [{"prompt": row["source"], "reference": row["target"]} for row in counts.samples]
    if counts.labels:
        # The texts of a labelled pair are in one prompt.
        texts = [
            "\t".join(text for side, text in row.items() if side != "label")
            for row in counts.samples
        ]
        labels = [row["label"] for row in counts.samples]
        return [
            {"prompt": text, "reference": label} for text, label in zip(texts, labels, strict=True)
        ]
    prompts = [" ".join(row["text"].split()[:_PROMPT_WORDS]) for row in counts.samples]
    return [{"prompt": prompt, "reference": None} for prompt in prompts]


def _remarks(
    file: str, guess: inspect_source.Guess, kind: str, counts: Counts, block: dict[str, Any]
) -> list[str]:
    description = f"{file}: {guess.format}"
    if "separator" in guess.read:
        description += f" with {params_text.flow(guess.read['separator'])} between cells"
    if guess.columns:
        description += f", columns {', '.join(guess.columns[:12])}"
    remarks = [description, f"{counts.rows:,} {_ROWS[kind]}, {counts.tokens:,} words"]
    if "columns" in guess.read:
        remarks[-1] += f"; {', '.join(f'{part}: {c}' for part, c in guess.read['columns'].items())}"
    if counts.labels:
        most = counts.labels.most_common(10)
        shown = ", ".join(f"{label} {number:,}" for label, number in most)
        remarks.append(f"{len(counts.labels)} labels: {shown}" + (", ..." if len(most) > 9 else ""))
    if counts.rejects:
        remarks.append(f"rejected: {_rejects(counts)}")
    if block["text"]["lowercase"]:
        remarks.append("texts are read in lower case; --keep-case keeps capitals")
    return remarks + guess.notes


def _rejects(counts: Counts) -> str:
    reasons = [f"{number:,} × {reason}" for reason, number in counts.rejects.most_common(5)]
    return ", ".join(reasons) or "0 rejected"
