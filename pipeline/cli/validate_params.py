"""`seqline check`: all of `params.yaml` and of the `flow.yaml` beside it is loaded by the modules
that it configures. All mistakes are reported at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from pipeline.cli import validate_corpora
from pipeline.contracts import AttentiveDecodable
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.core.mistakes import Mistakes
from pipeline.flow import sections
from pipeline.training import devices, families, fitted, init_from, loop, optim


def check(path: Path, files: bool = False) -> str:
    """Describe the content in a line, and unused settings in another; UserError for all in the file
    that no stage could use.

    `files`: also for the user's own files that are not there."""
    mistakes = Mistakes()
    with mistakes.collect():
        params.check_sections(path)
    with mistakes.collect():
        devices.choose(params.compute(path).device, "compute.device")
    with mistakes.collect():
        params.evaluation(path)

    # Corpora first: a run is checked against its corpus's kind and vocabulary.
    corpora = _names(path, "corpora", mistakes)
    settings = _names(path, "settings", mistakes)
    runs = _names(path, "runs", mistakes)
    kinds = validate_corpora.kinds(path, corpora, mistakes, files)
    if corpora and settings and runs:
        _runs(path, runs, kinds, mistakes)

    with mistakes.collect():
        sections.load(path.parent)  # flow.yaml
    mistakes.refuse()
    return (
        f"{path.name}: {len(corpora)} corpora, {len(settings)} settings and {len(runs)} runs, all "
        f"in order{_unused(path, settings)}"
    )


def _names(path: Path, key: str, mistakes: Mistakes) -> list[str]:
    """The blocks' names: they become names of folders and of DVC's stages."""
    names: list[str] = []
    with mistakes.collect():
        blocks = config.section(path, key)
        if not blocks:
            raise refuse(key, blocks, "a section with at least one block")
        for name in blocks:
            with mistakes.collect():
                params.check_name(key, name)
                names.append(name)
    return names


def _runs(path: Path, names: list[str], kinds: Mapping[str, str], mistakes: Mistakes) -> None:
    """Check all runs. After a mistake in one, others of its setting are not checked: most have the
    same."""
    wrong = set()
    for name in names:
        block = config.section(path, "runs")[name]
        setting = str(block.get("setting")) if isinstance(block, Mapping) else name
        if setting not in wrong:
            wrong.add(setting)
            with mistakes.collect():
                _run(path, name, kinds)
                wrong.remove(setting)


def _unused(path: Path, settings: Sequence[str]) -> str:
    """A line about settings without a run, which no stage reads; "" if there are none."""
    used = {block.get("setting") for block in config.blocks(path, "runs").values()}
    unused = [name for name in settings if name not in used]
    return f"\nsettings without a run, which nothing reads: {', '.join(unused)}" if unused else ""


def _run(path: Path, name: str, kinds: Mapping[str, str]) -> None:
    """UserError for all mistakes in a run; one in its corpus is reported elsewhere."""
    block = params.run(path, name)
    where = f"runs.{name}"
    setting = f"settings.{block.setting}"
    if name == params.SCRATCH:
        raise refuse(
            "runs",
            name,
            f"another name: `init_from: {name}` means no initial run",
            "Rename the block.",
        )

    # Each block is loaded by the module that will read it.
    model = config.named_module("pipeline.models", block.family, f"{where}.family")
    task = config.named_module("pipeline.tasks", block.task, f"{where}.task")
    families.refuse_other_task(block, where)
    is_fitted = fitted.check_blocks(block, setting)
    mistakes = Mistakes()
    with mistakes.collect():
        sizes = config.load(model.Config, block.model, f"{setting}.model")
        _positions(block, getattr(sizes, "learned_positions", None), setting)
    with mistakes.collect():
        if block.objective is not None:
            objective = config.load_objective(task, block.objective, f"{setting}.objective")
            families.refuse_other_objective(task, model.Model, objective, f"{setting}.objective")
    if not is_fitted:
        with mistakes.collect():
            optim.load(block.optim, f"{setting}.optim")
        with mistakes.collect():
            config.load(loop.Config, block.training, f"{setting}.training")
    with mistakes.collect():
        _search(block, task, model, f"{setting}.search")
    mistakes.refuse()

    # Blocks that are valid alone may not fit together.
    if block.corpus in kinds:
        _corpus(block, task, where, kinds)
        _init_from(path, name, block)


def _corpus(block: params.Run, task: ModuleType, where: str, kinds: Mapping[str, str]) -> None:
    if kinds[block.corpus] != task.KIND:
        expected = (
            ", ".join(c for c, kind in kinds.items() if kind == task.KIND)
            or f"a corpus of kind {task.KIND}"
        )
        raise refuse(
            f"{where}.corpus",
            f"{block.corpus}, which is {kinds[block.corpus]}",
            f"{expected} for {block.task}",
        )


def _init_from(path: Path, name: str, block: params.Run) -> None:
    """A run begins from scratch, or from one of a family and sizes that fit, which reads the same
    ids."""
    init_from.refuse_scratch(block, f"runs.{name}")
    if block.init_from == params.SCRATCH:
        return
    _ancestors(path, name)
    initial_run = params.run(path, block.init_from)
    _initial_weights(path, name, block, initial_run)
    _initial_vocabulary(path, name, block, initial_run)
    _initial_seed(path, name, block, initial_run)


def _ancestors(path: Path, name: str) -> None:
    """Follow `init_from` up to scratch, to find a cycle, which DVC would refuse less clearly."""
    runs = list(config.section(path, "runs"))
    line = [name]
    while (parent := params.run(path, line[-1]).init_from) != params.SCRATCH:
        if parent not in runs or parent in line:
            expected = (
                "a run that does not begin from this one"
                if parent in runs
                else f"scratch or one of {', '.join(runs)}"
            )
            raise refuse(f"runs.{line[-1]}.init_from", parent, expected)
        line.append(parent)


def _initial_weights(path: Path, name: str, block: params.Run, initial_run: params.Run) -> None:
    """The weights must fit: by the family first, then by the sizes."""
    where = f"runs.{name}.init_from"
    families = init_from.compatible_families(block.family)
    if initial_run.family not in families:
        compatible = [
            run
            for run in config.section(path, "runs")
            if run != name and params.run(path, run).family in families
        ]
        scratch = [params.SCRATCH] if init_from.can_start_from_scratch(block.family) else []
        expected = " or ".join([*scratch, *compatible]) or "a run that params.yaml lacks"
        raise refuse(
            where,
            f"{block.init_from}, which is {initial_run.family}",
            f"{expected} for {block.family}",
        )

    config.load(
        config.named_module("pipeline.models", initial_run.family, where).Config,
        initial_run.model,
        f"settings.{initial_run.setting}.model",
    )
    init_from.refuse_mismatch(
        block,
        block.init_from,
        initial_run.family,
        initial_run.model,
        f"settings.{block.setting}.model",
    )


def _initial_vocabulary(path: Path, name: str, block: params.Run, initial_run: params.Run) -> None:
    """Rows of the embedding keep their meaning only with the same vocabulary."""
    vocab = params.corpus(path, block.corpus).vocab["corpus"]
    initial_vocab = params.corpus(path, initial_run.corpus).vocab["corpus"]
    if vocab != initial_vocab:
        raise refuse(
            f"runs.{name}.init_from",
            f"{block.init_from}, which reads ids of {initial_vocab}",
            f"a run that reads those of {vocab}",
            f"Set corpora.{block.corpus}.vocab.corpus, or name another run.",
        )


def _initial_seed(path: Path, name: str, block: params.Run, initial_run: params.Run) -> None:
    """Seeds that share a trained beginning are not independent, as the tests of settings assume."""
    if not params.is_trained(path, block.init_from):
        return
    shared = {key: getattr(block, key) for key in ("setting", "corpus", "init_from")}
    for run, keys in config.section(path, "runs").items():
        if run != name and isinstance(keys, Mapping) and shared.items() <= dict(keys).items():
            raise refuse(
                f"runs.{name}.init_from",
                f"{block.init_from}, from which {run} of the same setting begins",
                f"another seed of {initial_run.setting}: each seed begins from its own",
                f"Add a seed of {initial_run.setting}, or give {name} another setting.",
            )


def _search(block: params.Run, task: ModuleType, model: ModuleType, where: str) -> None:
    if block.search is None and not task.USES_SEARCH:
        return
    if block.search is None or not task.USES_SEARCH:
        raise refuse(
            where,
            block.search,
            "a section with a method" if task.USES_SEARCH else f"null for {block.task}",
        )

    method = config.named_module(
        "pipeline.decoding", block.search.get("method", "nothing"), f"{where}.method"
    )
    search = config.load(method.Config, block.search, where)
    # The coverage penalty is computed from attention weights.
    if (
        "penalty" in block.search
        and search.penalty.coverage
        and not isinstance(model.Model, AttentiveDecodable)
    ):
        got = f"{search.penalty.coverage} with {block.family}, which has no attention weights"
        raise refuse(f"{where}.penalty.coverage", got, "0.0 for this family")


def _positions(block: params.Run, learned: int | bool | None, where: str) -> None:
    """An answer may have no position that none was learned for: it would be found only after the
    training."""
    if block.search is None or learned is None or isinstance(learned, bool):
        return
    if (longest := block.search["max_length"]) > learned:
        raise refuse(
            f"{where}.search.max_length",
            longest,
            f"at most {learned}, the run's model.learned_positions",
            "Raise learned_positions, or use null: sinusoidal positions have no end.",
        )
