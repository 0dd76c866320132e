"""References of the code to the book: which docstring or comment names a section or equation."""

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
    owner: str  # the definition of the module that it stands in, "" for the module itself

    @property
    def section(self) -> tuple[int, ...]:
        """Chapter and section of the book, such as (11, 3)."""
        return self.number[:2]


def text_of(number: tuple[int, ...]) -> str:
    """(11, 3, 6) as "11.3.6"."""
    return ".".join(map(str, number))


@cache
def find(root: Path, file: Path) -> tuple[Reference, ...]:
    """All references of one Python file, in the order of its lines."""
    source = file.read_text(encoding="utf-8")
    relative = file.relative_to(root).as_posix()
    tree = ast.parse(source)
    references = {
        Reference(number, kind, relative, line, name, _sentence(text), _owner(tree, line))
        for line, name, text in [*_docstrings(tree, relative), *_comments(source, tree, relative)]
        for kind, number in _numbers(text)
    }
    return tuple(sorted(references, key=lambda item: (item.line, item.number)))


def of_family(root: Path, file: Path) -> list[Reference]:
    """The references of a family's file, and those of the definitions that it uses of other files,
    in the book's order."""
    return [*find(root, file), *_of_used_definitions(root, file)]


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


def _owner(tree: ast.Module, line: int) -> str:
    for node in tree.body:
        inside = node.lineno <= line <= (node.end_lineno or node.lineno)
        if inside and isinstance(node, ast.ClassDef | ast.FunctionDef):
            return node.name
    return ""


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
def reached(root: Path, file: Path) -> dict[Path, frozenset[str]]:
    """The definitions of pipeline/nn and pipeline/models that the code of `file` uses, directly or
    through others, for each of their files."""
    names = set(_module(root, file).definitions)
    visited: set[tuple[Path, str]] = set()
    waiting = [(file, name) for name in names]
    while waiting:
        here, name = waiting.pop()
        if (here, name) in visited:
            continue
        visited.add((here, name))
        module = _module(root, here)
        waiting += module.uses(name)
    files = {path for path, _ in visited if path != file}
    return {
        used_file: frozenset(name for path, name in visited if path == used_file)
        for used_file in files
    }


def _of_used_definitions(root: Path, file: Path) -> list[Reference]:
    return sorted(
        reference
        for used_file, names in reached(root, file).items()
        for reference in find(root, used_file)
        if reference.owner in names
    )


@dataclass(frozen=True, slots=True)
class _Module:
    """The definitions of a file, and what its imported names stand for."""

    path: Path
    definitions: dict[str, ast.AST]
    imported: dict[str, tuple[Path, str]]  # name: its file and name there; "" for the module itself

    def uses(self, name: str) -> list[tuple[Path, str]]:
        """The files and names of all definitions that the definition `name` refers to."""
        used = []
        for node in ast.walk(self.definitions.get(name, ast.Pass())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                file, inside = self.imported.get(node.value.id, (None, None))
                if file and not inside:
                    used.append((file, node.attr))
            elif isinstance(node, ast.Name):
                if node.id in self.definitions:
                    used.append((self.path, node.id))
                file, inside = self.imported.get(node.id, (None, None))
                if file and inside:
                    used.append((file, inside))
        return used


@cache
def _module(root: Path, path: Path) -> _Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions: dict[str, ast.AST] = {}
    imported: dict[str, tuple[Path, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            definitions |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                for file, inside in (
                    (_file(root, f"{node.module}.{name.name}"), ""),
                    (_file(root, node.module), name.name),
                ):
                    if file:
                        imported[name.asname or name.name] = (file, inside)
                        break
    return _Module(path, definitions, imported)


def _file(root: Path, module: str) -> Path | None:
    path = root / (module.replace(".", "/") + ".py")
    folders = (root / "pipeline/nn", root / "pipeline/models")
    return path if path.parent in folders and path.is_file() else None
