"""`seqline check`: all of `params.yaml` and of the `flow.yaml` beside it is loaded by the modules
that it configures."""

from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.contracts import AttentiveDecodable
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.download import source as download
from pipeline.flow import sections
from pipeline.scoring import tokenizers
from pipeline.text import tokens, vocab
from pipeline.training import devices, init_from, loop, optim

SHARED = "shared"  # mappings that other sections merge; no stage reads it
SECTIONS = ("compute", "evaluation", "corpora", SHARED, "runs")


def check(path: Path) -> str:
    """Describe the file's content in a line; UserError for the first thing in it that no stage
    could use."""
    content = config.read(path)
    for key in content:
        if key not in SECTIONS:
            raise refuse(
                str(key), "an unknown section", "one of " + ", ".join(SECTIONS), "Remove it."
            )
    compute = params.compute(path)
    devices.choose(compute.device, "compute.device")
    params.evaluation(path)
    corpora, runs = _names(path, "corpora"), _names(path, "runs")
    kinds = {name: _corpus(path, name) for name in corpora}
    for name in runs:
        _run(path, name, kinds)
    sections.load(path.parent)
    return (
        f"{path.name}: {len(corpora)} corpora and {len(runs)} runs, all in order "
        f"({', '.join(runs)})"
    )


def _names(path: Path, key: str) -> list[str]:
    """The blocks' names: they become names of folders and of DVC's stages."""
    found = config.section(path, key)
    if not isinstance(found, dict) or not found:
        raise refuse(key, found, "a section with at least one block")
    for name in found:
        params.check_name(key, name)
    return list(found)


def _corpus(path: Path, name: str) -> str:
    """The corpus's kind, `text`, `pair` or `labelled`, after all its blocks were loaded."""
    block, where = params.corpus(path, name), f"corpora.{name}"
    tokenizers.require(block.bleu, f"{where}.bleu")
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    config.load(reader.Config, block.read, f"{where}.read")
    params.split(block, where)
    if block.limit is not None and block.limit < 1:
        raise refuse(f"{where}.limit", block.limit, "at least 1, or null for all rows")
    text = config.load(tokens.Text, block.text, f"{where}.text")
    size = config.load(vocab.Vocab, block.vocab, f"{where}.vocab")
    if text.level == "bpe":
        vocab.check_pieces(size, f"{where}.vocab")
    _vocabulary(path, name, block)
    _source(block.source, f"{where}.source")
    return str(reader.KIND)


def _vocabulary(path: Path, name: str, block: params.Corpus) -> None:
    """A vocabulary that is another corpus's must be that very one, or the other's models could not
    read this corpus."""
    where, whose = f"corpora.{name}", block.vocab["corpus"]
    corpora = config.section(path, "corpora")
    if whose not in corpora:
        raise refuse(
            f"{where}.vocab.corpus",
            whose,
            "one of " + ", ".join(corpora),
            f"{name} is its own vocabulary's name.",
        )
    other = params.corpus(path, whose)
    for key in ("text", "vocab"):
        if getattr(other, key) != getattr(block, key):
            raise refuse(
                f"{where}.{key}",
                "another block",
                f"that of {whose}, whose vocabulary it takes",
                "Copy the block.",
            )


def _source(source: dict[str, Any], where: str) -> None:
    """As the download stage reads it, without fetching."""
    if len(source) != 1 or not {"builtin", "files", "bundle", "path"} & set(source):
        got = ", ".join(str(key) for key in source) or "nothing"
        raise refuse(where, got, "exactly one of the keys builtin, files, bundle, path")
    if "builtin" in source:
        download.load_grammar(source["builtin"], f"{where}.builtin")
    elif "files" in source:
        config.load(download.Files, source, where)
    elif "bundle" in source:
        config.load(download.Bundled, source, where)
    else:
        config.load(download.PathSource, source, where)


def _run(path: Path, name: str, kinds: dict[str, str]) -> None:
    block, where = params.run(path, name), f"runs.{name}"
    if name == params.SCRATCH:
        raise refuse(
            "runs", name, f"another name: `start: {name}` begins from no run", "Rename the block."
        )
    model = config.named_module("pipeline.models", block.family, f"{where}.family")
    task = config.named_module("pipeline.tasks", block.task, f"{where}.task")
    sizes = config.load(model.Config, block.model, f"{where}.model")
    config.load(task.Config, block.objective, f"{where}.objective")
    optim.load(block.optim, f"{where}.optim")
    config.load(loop.Config, block.training, f"{where}.training")
    _search(block, task, model, f"{where}.search")
    _positions(block, getattr(sizes, "learned_positions", None), where)
    _start(path, name, block)
    if kinds[block.corpus] != task.KIND:
        fitting = (
            ", ".join(c for c, kind in kinds.items() if kind == task.KIND)
            or f"a corpus of kind {task.KIND}"
        )
        raise refuse(
            f"{where}.corpus",
            f"{block.corpus}, which is {kinds[block.corpus]}",
            f"{fitting} for {block.task}",
        )


def _start(path: Path, name: str, block: params.Run) -> None:
    """A run begins from scratch, or from one of a family and sizes that fit, which reads the same
    ids."""
    if block.start == params.SCRATCH:
        return
    where, runs, line = f"runs.{name}.start", list(config.section(path, "runs")), [name]
    while (parent := params.run(path, line[-1]).start) != params.SCRATCH:
        if parent not in runs or parent in line:
            fitting = (
                "a run that does not begin from this one"
                if parent in runs
                else f"scratch or one of {', '.join(runs)}"
            )
            raise refuse(f"runs.{line[-1]}.start", parent, fitting)
        line.append(parent)
    begun, families = params.run(path, block.start), init_from.compatible_families(block.family)
    if begun.family not in families:
        fits = [
            other for other in runs if other != name and params.run(path, other).family in families
        ]
        fitting = " or ".join([params.SCRATCH, *fits])
        raise refuse(
            where, f"{block.start}, which is {begun.family}", f"{fitting} for {block.family}"
        )
    config.load(
        config.named_module("pipeline.models", begun.family, where).Config,
        begun.model,
        f"runs.{block.start}.model",
    )
    init_from.refuse_mismatch(block, block.start, begun.family, begun.model, f"runs.{name}.model")
    own, other = (
        params.corpus(path, corpus).vocab["corpus"] for corpus in (block.corpus, begun.corpus)
    )
    if own != other:
        todo = f"Set corpora.{block.corpus}.vocab.corpus, or name another run."
        raise refuse(
            where,
            f"{block.start}, which reads ids of {other}",
            f"a run that reads those of {own}",
            todo,
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
    if (
        "penalty" in block.search
        and search.penalty.coverage
        and not isinstance(model.Model, AttentiveDecodable)
    ):
        got = f"{search.penalty.coverage} with {block.family}, which cannot say where it looks"
        raise refuse(f"{where}.penalty.coverage", got, "0.0 for this family")


def _positions(block: params.Run, learned: int | bool | None, where: str) -> None:
    """An answer may have no position that none was learned for: it would be found only after the
    training."""
    if block.search is None or learned is None or isinstance(learned, bool):
        return
    if (longest := block.search["max_length"]) > learned:
        todo = "Raise learned_positions, or use null: sinusoidal positions have no end."
        raise refuse(
            f"{where}.search.max_length",
            longest,
            f"at most {learned}, the run's model.learned_positions",
            todo,
        )
