"""`seqline check`: all of `params.yaml` and of the `flow.yaml` beside it is loaded by the modules
that it configures."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.contracts import AttentiveDecodable
from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.corpora import kind_of
from pipeline.download import source as download
from pipeline.flow import sections
from pipeline.scoring import tokenizers
from pipeline.text import tokens, vocab
from pipeline.training import devices, families, fitted, init_from, loop, optim


def check(path: Path) -> str:
    """Describe the file's content in a line; UserError for the first thing in it that no stage
    could use."""
    params.check_sections(path)
    devices.choose(params.compute(path).device, "compute.device")
    params.evaluation(path)

    # Corpora first: a run is checked against its corpus's kind and vocabulary.
    corpora = _names(path, "corpora")
    settings = _names(path, "settings")
    runs = _names(path, "runs")
    kinds = {name: _corpus(path, name) for name in corpora}
    blocks = {name: _run(path, name, kinds) for name in runs}
    used = {block.setting for block in blocks.values()}
    for name in settings:
        if name not in used:
            todo = "Remove it, or add a run of it."
            raise refuse(f"settings.{name}", "no run", "at least one run of it", todo)

    sections.load(path.parent)  # flow.yaml
    return (
        f"{path.name}: {len(corpora)} corpora, {len(settings)} settings and {len(runs)} runs, all "
        f"in order ({', '.join(settings)})"
    )


def _names(path: Path, key: str) -> list[str]:
    """The blocks' names: they become names of folders and of DVC's stages."""
    blocks = config.section(path, key)
    if not isinstance(blocks, dict) or not blocks:
        raise refuse(key, blocks, "a section with at least one block")
    for name in blocks:
        params.check_name(key, name)
    return list(blocks)


def _corpus(path: Path, name: str) -> str:
    """The corpus's kind, such as `text` or `pair`, after all its blocks were loaded."""
    block = params.corpus(path, name)
    where = f"corpora.{name}"

    tokenizers.require(block.bleu_tokenizer, f"{where}.bleu_tokenizer")
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    kind = kind_of(reader, config.load(reader.Config, block.read, f"{where}.read"))
    params.split(block, where)
    if block.limit is not None and block.limit < 1:
        raise refuse(f"{where}.limit", block.limit, "at least 1, or null for all rows")

    has_text = tables.has_text(kind)
    text = tokens.load_text(block.text, has_text, f"{where}.text")
    size = vocab.load_block(block.vocab, has_text, f"{where}.vocab")
    if text is not None and text.level == "bpe" and isinstance(size, vocab.Vocab):
        vocab.check_pieces(size, f"{where}.vocab")
    _vocabulary(path, name, block)

    _source(block.source, f"{where}.source")
    return kind


def _vocabulary(path: Path, name: str, block: params.Corpus) -> None:
    """Check a vocabulary that belongs to another corpus.

    Both corpora must tokenize alike, or models of one could not read the other."""
    where = f"corpora.{name}"
    vocab_corpus = block.vocab["corpus"]
    corpora = config.section(path, "corpora")
    if vocab_corpus not in corpora:
        raise refuse(
            f"{where}.vocab.corpus",
            vocab_corpus,
            "one of " + ", ".join(corpora),
            f"{name} is its own vocabulary's name.",
        )

    # Ids depend on the tokens too, so the text block must be the same as well.
    vocab_owner = params.corpus(path, vocab_corpus)
    for key in ("text", "vocab"):
        if getattr(vocab_owner, key) != getattr(block, key):
            raise refuse(
                f"{where}.{key}",
                "another block",
                f"that of {vocab_corpus}, whose vocabulary it takes",
                "Copy the block.",
            )


def _source(source: dict[str, Any], where: str) -> None:
    """As the download stage reads it, without fetching."""
    kind = download.kind(source, where)
    if kind == "builtin":
        download.load_grammar(source["builtin"], f"{where}.builtin")
    else:
        config.load(download.SECTIONS[kind], source, where)


def _run(path: Path, name: str, kinds: dict[str, str]) -> params.Run:
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
    sizes = config.load(model.Config, block.model, f"{setting}.model")
    is_fitted = fitted.check_blocks(block, setting)
    if block.objective is not None:
        objective = config.load_objective(task, block.objective, f"{setting}.objective")
        families.refuse_other_objective(task, model.Model, objective, f"{setting}.objective")
    if not is_fitted:
        optim.load(block.optim, f"{setting}.optim")
        config.load(loop.Config, block.training, f"{setting}.training")

    # Blocks that are valid alone may not fit together.
    _search(block, task, model, f"{setting}.search")
    _positions(block, getattr(sizes, "learned_positions", None), setting)
    _init_from(path, name, block)

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
    return block


def _init_from(path: Path, name: str, block: params.Run) -> None:
    """A run begins from scratch, or from one of a family and sizes that fit, which reads the same
    ids."""
    init_from.refuse_scratch(block, f"runs.{name}")
    if block.init_from == params.SCRATCH:
        return
    where = f"runs.{name}.init_from"
    runs = list(config.section(path, "runs"))

    # Follow `init_from` up to scratch, to find a cycle, which DVC would refuse less clearly.
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

    # The weights must fit: by the family first, then by the sizes.
    initial_run = params.run(path, block.init_from)
    families = init_from.compatible_families(block.family)
    if initial_run.family not in families:
        compatible = [
            run for run in runs if run != name and params.run(path, run).family in families
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

    # Rows of the embedding keep their meaning only with the same vocabulary.
    vocab = params.corpus(path, block.corpus).vocab["corpus"]
    initial_vocab = params.corpus(path, initial_run.corpus).vocab["corpus"]
    if vocab != initial_vocab:
        raise refuse(
            where,
            f"{block.init_from}, which reads ids of {initial_vocab}",
            f"a run that reads those of {vocab}",
            f"Set corpora.{block.corpus}.vocab.corpus, or name another run.",
        )

    # Seeds that share a trained beginning are not independent, as the tests of settings assume.
    shared = {key: getattr(block, key) for key in ("setting", "corpus", "init_from")}
    for other, keys in config.section(path, "runs").items():
        is_same = isinstance(keys, Mapping) and shared.items() <= dict(keys).items()
        if other != name and is_same and params.is_trained(path, block.init_from):
            raise refuse(
                where,
                f"{block.init_from}, from which {other} of the same setting begins",
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
