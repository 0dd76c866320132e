"""The project's own source, read by `ast` and never run: modules, what they import, and what the
DAG says they depend on."""

import ast
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dvc.repo import Repo

ROOT = Path(__file__).resolve().parents[2]
# packages whose modules `config.named_module` picks, by the key of the stage's block that names the
# file
CHOSEN = {
    "pipeline.models": "family",
    "pipeline.tasks": "task",
    "pipeline.predictions": "task",
    "pipeline.scoring.tasks": "task",
    "pipeline.corpora": "format",
}
VIEW = "pipeline.tracking"  # shows what happens and changes no output, so no stage depends on it
FAILURES = "stages"  # the package itself only says how a failed import is reported


class Node(NamedTuple):
    """One concrete stage of the DAG: its address, module, deps as paths from the root, and its
    block of params.yaml."""

    address: str
    module: str
    deps: tuple[str, ...]
    block: dict[str, Any]


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the library, of its Python interface and of the stages by its dotted name."""
    tops = ("pipeline", "seqline", "stages")
    files = [file for top in tops for file in sorted((ROOT / top).rglob("*.py"))]
    return {dotted(file): file for file in files}


def dotted(file: Path) -> str:
    """The dotted name under which `file` is imported."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def tree(module: str) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Dotted names that the module imports anywhere in it, functions included: modules of ours, and
    others as written."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else str(node.module) for name in whole}
    return frozenset(found)


def tops(module: str) -> set[str]:
    """First words of what the module imports: `torch`, `json`, `pipeline`, ..."""
    return {name.split(".")[0] for name in imports(module)}


def named(module: str) -> set[str]:
    """Packages out of which the module picks by name: `named_module("pipeline.models", ...)`."""
    return {
        str(call.args[0].value)
        for call in calls(module)
        if ast.unparse(call.func).split(".")[-1] == "named_module"
        and isinstance(call.args[0], ast.Constant)
    }


def calls(module: str) -> list[ast.Call]:
    """Every call written in the module."""
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]


def closure(module: str, block: dict[str, Any]) -> set[str]:
    """Modules of ours that running `module` for the stage's `block` may import, without the view
    and what only it needs."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in modules() or is_view(name):
            continue
        reached.add(name)
        waiting += [".".join(name.split(".")[:length]) for length in range(1, name.count(".") + 1)]
        waiting += sorted(imports(name))
        for package in named(name):
            waiting += [package, *picked(package, block)]
    return reached


def picked(package: str, block: dict[str, Any]) -> list[str]:
    """What `named_module` can give out of `package` for a stage's block: one module where the block
    says so, else all."""
    if (key := CHOSEN.get(package)) and key in block:
        return [f"{package}.{block[key]}"]
    return [name for name in modules() if name.startswith(f"{package}.")]


def is_view(module: str) -> bool:
    """Whether the module belongs to tracking."""
    return module == VIEW or module.startswith(f"{VIEW}.")


def has_code(module: str) -> bool:
    """Whether there is anything in the module but a docstring: a bare package cannot change a
    result."""
    return module != FAILURES and not all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for node in tree(module).body
    )


@functools.cache
def dag() -> tuple[Node, ...]:
    """The concrete stages, templates resolved by DVC itself."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    blocks = {**params["corpora"], **params["runs"]}
    return tuple(_node(stage, blocks) for stage in Repo(str(ROOT)).index.stages)


def _node(stage: Any, blocks: dict[str, Any]) -> Node:
    command = re.match(r"python -m (stages\.\w+)", stage.cmd)
    assert command, f"{stage.addressing} runs {stage.cmd}"
    deps = tuple(
        Path(dep.fs_path).relative_to(ROOT).as_posix()
        for dep in stage.deps
        if dep.protocol == "local"
    )
    return Node(stage.name, command[1], deps, blocks.get(stage.name.partition("@")[2], {}))
