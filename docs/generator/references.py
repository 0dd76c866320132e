"""References of the code to the book: which docstring or comment names which section or equation."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_NUMBER = r"\d+(?:\.\d+)+|\d+"
_REFERENCE = re.compile(
    rf"d2l\s+(?P<kind>sections?|equations?|chapters?)?\s*(?P<first>{_NUMBER})"
    rf"(?:\s+(?P<join>to|and)\s+(?P<last>{_NUMBER}))?"
)


@dataclass(frozen=True, order=True, slots=True)
class Reference:
    """`kind` is "section", "equation" or "chapter"; `number` as in the book, such as "11.3.6"."""

    number: tuple[int, ...]
    kind: str
    file: str  # relative to the repository
    line: int
    name: str  # of the module, class or function that it is about
    says: str  # the first sentence of its docstring, or the comment

    @property
    def section(self) -> tuple[int, ...]:
        """Chapter and section of the book, such as (11, 3)."""
        return self.number[:2]


def text_of(number: tuple[int, ...]) -> str:
    """(11, 3, 6) as "11.3.6"."""
    return ".".join(map(str, number))


def find(root: Path, file: Path) -> list[Reference]:
    """All references of one Python file, in the order of its lines."""
    source = file.read_text(encoding="utf-8")
    relative = file.relative_to(root).as_posix()
    tree = ast.parse(source)
    found = [
        Reference(number, kind, relative, line, name, _sentence(text))
        for line, name, text in [*_docstrings(tree, relative), *_comments(source, tree, relative)]
        for kind, number in _numbers(text)
    ]
    return sorted(set(found), key=lambda reference: (reference.line, reference.number))


def _numbers(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for match in _REFERENCE.finditer(text):
        kind = (match["kind"] or "section").rstrip("s")
        first, last = (_tuple(match[name] or match["first"]) for name in ("first", "last"))
        yield kind, first
        if last == first:
            continue
        if match["join"] == "to" and first[:-1] == last[:-1]:
            for step in range(first[-1] + 1, last[-1]):
                yield kind, (*first[:-1], step)
        yield kind, last


def _tuple(number: str) -> tuple[int, ...]:
    return tuple(map(int, number.split(".")))


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                line = 1 if isinstance(node, ast.Module) else node.lineno
                yield line, _name(node, module), text


def _name(node: ast.AST, module: str) -> str:
    return getattr(node, "name", "") or Path(module).stem


def _comments(source: str, tree: ast.Module, module: str) -> Iterator[tuple[int, str, str]]:
    """Blocks of comment lines, each with the innermost class or function around it."""
    block: list[str] = []
    start = previous = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != previous + 1:
            yield start, _around(tree, start, module), " ".join(block)
            block = []
        if not block:
            start = token.start[0]
        block.append(token.string.lstrip("# "))
        previous = token.start[0]
    if block:
        yield start, _around(tree, start, module), " ".join(block)


def _around(tree: ast.Module, line: int, module: str) -> str:
    name, size = Path(module).stem, 10**9
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            end = node.end_lineno or node.lineno
            if node.lineno <= line <= end and end - node.lineno < size:
                name, size = node.name, end - node.lineno
    return name


def _sentence(text: str) -> str:
    """The first sentence, without what stands in brackets about sources."""
    plain = re.sub(r"\s+", " ", text).strip()
    plain = re.sub(r" ?\([^()]*(?:d2l|et al\.|\b(?:19|20)\d\d\b)[^()]*\)", "", plain)
    return re.split(r"(?<=[a-z0-9\"`)])[.:;](?: |$)", plain, maxsplit=1)[0].rstrip(".")


@cache
def imports(root: Path, file: Path) -> frozenset[Path]:
    """Modules of pipeline/nn and pipeline/models that `file` reads, directly or through others."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        for other in _direct(root, waiting.pop()) - seen - {file}:
            seen.add(other)
            waiting.append(other)
    return frozenset(seen)


def _direct(root: Path, file: Path) -> set[Path]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    paths = {root / (module.replace(".", "/") + ".py") for module in modules}
    folders = (root / "pipeline/nn", root / "pipeline/models")
    return {path for path in paths if path.parent in folders and path.is_file()}
