"""Count what slows readers down: filler names, docstrings that begin with a question word, long
lines, long sentences.

    python -m benchmarks.readability [FOLDER...]

Prints one line for each measure. FOLDERs are checked-out projects, this one by default: two commits
are compared with `git worktree add`."""

import argparse
import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("pipeline", "stages")
FILLERS = frozenset(
    {
        "asked",
        "done",
        "found",
        "given",
        "got",
        "held",
        "known",
        "kept",
        "left",
        "made",
        "meant",
        "named",
        "one",
        "other",
    }
    | {"own", "put", "said", "seen", "sent", "some", "taken", "told", "those", "wanted", "whole"}
)
QUESTIONS = ("What ", "Whether ", "How ", "Where ", "Who ", "Which ", "Why ", "When ")
LONG_FUNCTION = 15  # lines


def names(tree: ast.Module) -> Iterator[str]:
    """Names that the module defines: variables, parameters, functions, classes and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def documented(
    tree: ast.Module,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The module, its classes and its functions that have a docstring."""
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node):
            yield node


def comments(text: str) -> int:
    """Number of lines with a comment."""
    return sum(
        token.type == tokenize.COMMENT
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )


def has_blank_line(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> bool:
    """Return whether a blank line divides the function's body, its docstring aside."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (
        any(not line.strip() for line in lines[body[0].lineno : node.end_lineno]) if body else False
    )


def sentence_lengths(text: str) -> list[int]:
    """Words in each sentence of a Markdown file; code, tables and headings do not count."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not re.match(r"\s*[|#!]", line))
    paragraphs = re.split(r"\n\s*\n|\n\s*- ", text)
    sentences = [
        sentence
        for paragraph in paragraphs
        for sentence in re.split(r"(?<=[.!?:])\s", " ".join(paragraph.split()))
    ]
    return [len(sentence.split()) for sentence in sentences if len(sentence.split()) > 1]


def measures(root: Path) -> dict[str, str]:
    """Every measure of the project in a folder, by its name."""
    texts = [
        file.read_text(encoding="utf-8")
        for part in PARTS
        for file in sorted((root / part).rglob("*.py"))
    ]
    trees = [ast.parse(text) for text in texts]
    lines = [line for text in texts for line in text.splitlines()]

    defined = [name.strip("_") for tree in trees for name in names(tree)]
    docstrings = [str(ast.get_docstring(node)) for tree in trees for node in documented(tree)]
    long = [
        has_blank_line(node, text.splitlines())
        for tree, text in zip(trees, texts, strict=True)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= LONG_FUNCTION
    ]
    words = sentence_lengths((root / "README.md").read_text(encoding="utf-8"))
    return {
        "lines of code": str(len(lines)),
        "names that are fillers": f"{share(name in FILLERS for name in defined)} of {len(defined)}",
        "docstrings that begin with a question word": share(
            text.startswith(QUESTIONS) for text in docstrings
        ),
        "comments for 100 lines": f"{100 * sum(map(comments, texts)) / len(lines):.1f}",
        f"functions of more than {LONG_FUNCTION} lines with a blank line": (
            f"{share(long)} of {len(long)}"
        ),
        "lines over 100 columns": share(len(line) > 100 for line in lines),
        "lines over 120 columns": share(len(line) > 120 for line in lines),
        "words in a sentence of the README, median": f"{statistics.median(words):.0f}",
        "the same, 90th percentile": f"{statistics.quantiles(words, n=10)[-1]:.0f}",
    }


def share(flags: "Iterator[bool] | list[bool]") -> str:
    """Percentage of the flags that are true."""
    values = list(flags)
    return f"{100 * sum(values) / len(values):.1f} %"


def main() -> None:
    """Print every measure, a column for each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT], metavar="FOLDER")
    columns = [measures(folder) for folder in parser.parse_args().folders]
    for name in columns[0]:
        print(f"{name:<55}", *(f"{column[name]:>18}" for column in columns))


if __name__ == "__main__":
    main()
