"""The shape that the rest relies on: layers, where each framework may be imported, and deps that
cover every import."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_code import ROOT, calls, closure, dag, has_code, imports, is_view, modules, tops, tree

FOUNDATION = {"core", "tables"}
DATA = {"corpora", "download", "grammars", "text"}
SHARED = {"contracts", "nn"}
BLIND = {"models", "tasks", "training", "decoding"}
JUDGING = {"scoring", "report", "tracking", "promotion"}
# where models, tasks, training and decoding meet, as in a stage
MEETING = {"inference", "predictions", "predictor"}
CONFORMANCE = {"conformance"}  # they meet here too, on small data
RUNS = {"runs"}  # what the command line and the Python interface share
DAG = {"dag"}
TOP = {"cli", "flow", "serving"}
PYTHON = {"seqline"}  # the Python interface, which nothing else imports
TORCH = {
    "contracts",
    "nn",
    "models",
    "tasks",
    "training",
    "decoding",
    "tracking",
    "inference",
    "predictions",
    "predictor",
    "conformance",
    "cli",
    "stages",
    "seqline",
}
SERVED = "pipeline.tracking.served"  # tracking, and yet a model at work: what MLflow serves
# MLflow keeps and runs this one file, which by its rules ends with a statement
LOADER = "pipeline.tracking.loader"
INSTALLED_AS = {
    "PIL": "pillow",
    "dvc_data": "dvc-data",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "dateutil": "python-dateutil",
    "ruamel": "ruamel.yaml",
}


def part(module: str) -> str:
    """`models` of pipeline.models.transformer, `stages` of stages.train."""
    words = module.split(".")
    return words[0] if words[0] != "pipeline" or len(words) == 1 else words[1]


def allowed(module: str) -> set[str]:
    """The parts that a module may import, by its own part."""
    name = part(module)
    if name in FOUNDATION:
        return FOUNDATION
    if name in DATA:
        return FOUNDATION | DATA
    if name in SHARED:
        return FOUNDATION | DATA | SHARED
    if name in BLIND:
        return FOUNDATION | DATA | SHARED | {name}
    if module == SERVED:
        return FOUNDATION | DAG | MEETING
    if name in DAG:
        return FOUNDATION | DATA | DAG
    if name in ("tracking", "promotion"):
        return FOUNDATION | DATA | DAG | {name, "scoring"}
    if name in JUDGING:
        return FOUNDATION | DATA | {name, "scoring"}
    if name in MEETING:
        return FOUNDATION | DATA | SHARED | BLIND | MEETING
    if name in CONFORMANCE:
        return FOUNDATION | DATA | SHARED | BLIND | CONFORMANCE
    everything = FOUNDATION | DATA | SHARED | BLIND | DAG | JUDGING | MEETING
    if name == "stages":
        return everything
    everything |= RUNS
    if name in RUNS | PYTHON:
        return everything | {name}
    return everything | TOP | CONFORMANCE


def ours(module: str) -> set[str]:
    return {
        name
        for name in imports(module)
        if name.split(".")[0] in ("pipeline", "seqline", "stages") and name != "pipeline"
    }


def test_every_module_belongs_to_a_layer() -> None:
    known = (
        FOUNDATION
        | DATA
        | SHARED
        | BLIND
        | DAG
        | JUDGING
        | MEETING
        | CONFORMANCE
        | RUNS
        | TOP
        | PYTHON
        | {"pipeline", "stages"}
    )
    assert {module for module in modules() if part(module) not in known} == set()


@pytest.mark.parametrize("module", modules())
def test_imports_point_down_the_layers_only(module: str) -> None:
    assert {name for name in ours(module) if part(name) not in allowed(module)} == set()


def test_no_packages_import_one_another_in_a_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules():
        graph.setdefault(part(module), set()).update(
            {part(name) for name in ours(module)} - {part(module)}
        )
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= {"core", "cli"}


def test_stages_never_import_one_another() -> None:
    assert {
        module: ours(module)
        for module in modules()
        if any(name.startswith("stages") for name in ours(module))
    } == {}


def test_models_tasks_training_and_decoding_are_blind_to_each_other() -> None:
    seen = {
        module: {part(name) for name in ours(module)} & BLIND - {part(module)}
        for module in modules()
    }
    assert {
        module: parts for module, parts in seen.items() if part(module) in BLIND and parts
    } == {}


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("mlflow", "pipeline.tracking"),
        ("prefect", "pipeline.flow"),
        ("dvc", "pipeline.dag"),
        ("dvc_data", "pipeline.dag"),
        ("filelock", "pipeline.core.locks"),
        ("distributed", "pipeline.text.shards"),
        ("dask", "pipeline.text.shards"),
    ],
)
def test_each_service_is_imported_in_one_place_only(package: str, home: str) -> None:
    elsewhere = {
        name
        for name in modules()
        if package in tops(name) and name != home and not name.startswith(f"{home}.")
    }
    assert elsewhere == set()


def test_torch_is_imported_only_where_tensors_live() -> None:
    assert {
        name for name in modules() if "torch" in tops(name) and part(name) not in TORCH
    } == set()


def test_dropout_is_drawn_in_one_place_only() -> None:
    torchs = ("nn.Dropout", "F.dropout")
    drawing = {
        name
        for name in modules()
        if any(one in modules()[name].read_text(encoding="utf-8") for one in torchs)
    }
    assert drawing == {"pipeline.nn.dropout"}


# All seeds of a setting have the same code.
FIRST_SEEDS = [node for node in dag() if not re.search(r"-(?!1$)[0-9]+$", node.address)]


@pytest.mark.parametrize("node", FIRST_SEEDS, ids=lambda node: node.address)
def test_every_import_of_a_stage_is_among_its_deps(node) -> None:
    needed = {
        modules()[name].relative_to(ROOT)
        for name in closure(node.module, node.block)
        if has_code(name)
    }
    covered = {Path(dep) for dep in node.deps}
    missing = {file.as_posix() for file in needed if not covered & {file, *file.parents}}
    assert missing == set(), f"{node.address} would not notice an edit of {sorted(missing)}"


@pytest.mark.parametrize("name", ["download", "tokenize", "vocab", "encode", "evaluate", "report"])
def test_no_stage_but_train_and_predict_needs_torch(name: str) -> None:
    for node in dag():
        if node.module == f"stages.{name}":
            assert {
                module for module in closure(node.module, node.block) if "torch" in tops(module)
            } == set()


def test_programs_outside_of_the_project_may_import_tables_by_its_former_name() -> None:
    program = (
        "from pipeline import tables; from pipeline.core import tables as now; assert "
        "tables.read is now.read"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert {name for name in modules() if "pipeline.tables" in imports(name)} == set()


def test_modules_are_picked_by_name_in_one_place_only() -> None:
    importing = {name for name in modules() if {"importlib", "runpy"} & tops(name)}
    assert {name for name in importing if not is_view(name)} <= {
        "pipeline.core.config",
        "pipeline.cli.version",
        "pipeline.dag.stage_server",  # runs any stage
        "pipeline.flow.devices",
        "pipeline.cli.arguments",  # only reads the installed version
        "seqline._library",  # only looks where a module would come from
    }


def test_importing_every_module_does_nothing(tmp_path: Path) -> None:
    """The modules of `pipeline.tracking`, `pipeline.flow` and `pipeline.serving` are themselves
    imported late, by what uses them."""
    late = ("pipeline.tracking.", "pipeline.flow", "pipeline.serving")
    light = [name for name in modules() if not name.startswith(late)]
    program = f"""
import sys, threading
sys.path.insert(0, {str(ROOT)!r})
import torch
before, threads = torch.random.get_rng_state(), torch.get_num_threads()
import importlib, logging
handlers = list(logging.root.handlers)
for name in {light!r}:
    importlib.import_module(name)
assert torch.equal(before, torch.random.get_rng_state()) and threads == torch.get_num_threads()
assert threading.active_count() == 1 and logging.root.handlers == handlers
assert not torch.cuda.is_initialized()
assert not {{"prefect", "mlflow"}} & set(sys.modules), "slow to import: import it where it is used"
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", modules())
def test_modules_have_docstrings_and_no_loose_statements(module: str) -> None:
    body = tree(module).body
    assert ast.get_docstring(tree(module)) or not body, f"{module} has no docstring"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    plain = (ast.Import, ast.ImportFrom, *functions, ast.ClassDef, ast.Assign, ast.AnnAssign)
    loose = [
        node
        for node in body
        if not isinstance(node, plain) and not _is_text(node) and not _is_main_or_typing(node)
    ]
    assert [ast.unparse(node) for node in loose] == (
        ["set_model(Served())"] if module == LOADER else []
    )


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_main_or_typing(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "__name__ == '__main__'",
        "TYPE_CHECKING",
    )


@pytest.mark.parametrize("module", modules())
def test_a_file_can_be_read_in_one_sitting(module: str) -> None:
    assert len(modules()[module].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("module", modules())
def test_every_public_function_and_class_has_a_docstring(module: str) -> None:
    """`main` of a stage excepted: the module's docstring is its help text."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [
        node
        for node in tree(module).body
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]
    assert [
        node.name for node in public if not ast.get_docstring(node) and node.name != "main"
    ] == []


# A fork must never return to its parent's loop, and what a stage raises is printed by the fork.
RUNS_ANY_CODE = "pipeline.dag.stage_server"


@pytest.mark.parametrize("module", [name for name in modules() if name != RUNS_ANY_CODE])
def test_no_except_is_broad_unless_it_raises_again(module: str) -> None:
    """The same, or another that names it as its cause."""
    handlers = [node for node in ast.walk(tree(module)) if isinstance(node, ast.ExceptHandler)]
    broad = [
        node
        for node in handlers
        if node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
    ]
    again = [
        node
        for node in broad
        if isinstance(last := node.body[-1], ast.Raise) and (not last.exc or last.cause)
    ]
    assert [node.lineno for node in broad if node not in again] == []


def test_every_third_party_import_is_a_declared_dependency() -> None:
    """Those of the extra `cluster` too, which is all that is optional."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    items = project["dependencies"] + project["optional-dependencies"]["cluster"]
    declared = {re.split(r"[<>=!~\[; ]", item)[0].lower() for item in items}
    used = (
        {top for name in modules() for top in tops(name)}
        - set(sys.stdlib_module_names)
        - {"pipeline", "seqline", "stages"}
    )
    assert {INSTALLED_AS.get(name, name) for name in used} - declared == set()


def tracked() -> list[Path]:
    """Files that git has, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [
        file
        for name in listed.stdout.decode().split("\0")
        if name and (file := ROOT / name).is_file()
    ]


def test_no_file_names_a_package_registry_or_a_place_on_somebodys_machine() -> None:
    registries = (
        r"py[p]i\.org|python[h]osted\.org|download\.py[t]orch\.org|index-[u]rl|find-[l]inks"
    )
    places = r"(?<![\w.])/(?:ro[o]t|ho[m]e|wo[r]k)/\w"
    found = re.compile(f"{registries}|{places}")
    texts = {
        file.relative_to(ROOT): file.read_bytes().decode("utf-8", "ignore") for file in tracked()
    }
    assert {
        str(name): match[0] for name, text in texts.items() if (match := found.search(text))
    } == {}


# --- written once


def test_only_core_git_names_git_as_a_command() -> None:
    """`Finding("ok", "git", ...)` of the health checks names a subject."""
    naming = {
        module
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call | ast.List | ast.Tuple)
        and not (isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding")
        for word in (node.args if isinstance(node, ast.Call) else node.elts)
        if isinstance(word, ast.Constant) and word.value == "git"
    }
    assert naming == {"pipeline.core.git"}


def test_paths_in_the_state_folder_are_defined_in_one_module_only() -> None:
    elsewhere = {module for module in modules() if _state_paths(tree(module))}
    assert elsewhere == {"pipeline.core.state_dir"}


def _state_paths(of: ast.Module) -> set[str]:
    """Texts that begin with the folder's name, without docstrings."""
    docstrings = {
        ast.get_docstring(part, clean=False)
        for part in ast.walk(of)
        if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    texts = {
        node.value
        for node in ast.walk(of)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts - docstrings if text.startswith(".seqline")}


def test_only_dvc_yaml_names_the_folders_of_outputs() -> None:
    """`reports` and `data` as the beginning of a path in a text of the code."""
    naming = {
        (module, node.value)
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"(data|reports)/\w", node.value)
    }
    assert naming == set()


def test_the_digest_of_a_file_is_computed_in_one_module_only() -> None:
    computing = {
        name for name in modules() if "file_digest(" in ast.unparse(tree(name)) and _digests(name)
    }
    assert computing == {"pipeline.core.digest"}
    by_hand = re.compile(r"(md5|sha256|update)\([^()]*\.read_bytes\(\)")
    assert {name for name in modules() if by_hand.search(ast.unparse(tree(name)))} == set()


def _digests(module: str) -> bool:
    return any(ast.unparse(call.func) == "hashlib.file_digest" for call in calls(module))


def test_files_are_renamed_in_one_module_only() -> None:
    """`X.replace(Y)` with one argument renames a file; texts have two, dataclasses keywords."""
    renaming = {
        name
        for name in modules()
        for call in calls(name)
        if isinstance(call.func, ast.Attribute)
        and (
            call.func.attr in ("rename", "renames")
            or ast.unparse(call.func) == "os.replace"
            or (call.func.attr == "replace" and len(call.args) == 1 and not call.keywords)
        )
    }
    assert renaming == {"pipeline.core.atomic"}


def test_no_module_but_a_task_s_own_names_a_task() -> None:
    tasks = {file.stem for file in (ROOT / "pipeline/tasks").glob("*.py")} - {"__init__"}
    of_tasks = (
        *("pipeline.tasks.", "pipeline.predictions.", "pipeline.scoring.tasks."),
        "pipeline.conformance.tasks.",
    )
    naming = {
        (module, node.value)
        for module in modules()
        if not module.startswith(of_tasks)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and node.value in tasks
    }
    assert naming == set()


def test_no_block_of_six_statements_is_written_twice() -> None:
    """Statements, not lines: declarations of fields and imports may be alike in many files."""
    places: dict[tuple[str, ...], list[str]] = {}
    for module in modules():
        lines = list(_statements(tree(module).body))
        for start in range(len(lines) - 5):
            block = [text for _, text in lines[start : start + 6]]
            if all(block):
                places.setdefault(tuple(block), []).append(f"{module}:{lines[start][0]}")
    assert [where for where in places.values() if len(where) > 1] == []


def _statements(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Line and text of every statement, of a compound one its head; "" for a declaration."""
    for node in body:
        inner = [getattr(node, field, None) for field in ("body", "orelse", "finalbody")]
        if (
            isinstance(node, ast.Import | ast.ImportFrom)
            or (isinstance(node, ast.AnnAssign) and node.value is None)
            or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ):
            yield node.lineno, ""
        elif any(inner):
            yield node.lineno, ast.unparse(node).partition("\n")[0]
        elif not _is_text(node):
            yield node.lineno, ast.unparse(node)
        for part in inner:
            yield from _statements(part or [])
        for handler in getattr(node, "handlers", []):
            yield handler.lineno, ast.unparse(handler).partition("\n")[0]
            yield from _statements(handler.body)
