"""Contenders and their outputs on a test set, by the project's own stages on paths outside the DAG.

Outputs are cached by the md5 of everything that the stages read. A champion is therefore evaluated
once per test set, however often it is challenged."""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import yaml

from pipeline.core import config, params
from pipeline.core.atomic import atomic_dir
from pipeline.core.params import Run
from pipeline.promotion import retokenize
from pipeline.promotion.stage_commands import CODE, Commands, Launch, run_stage
from pipeline.scoring import metrics_file
from pipeline.scoring.tasks import bleu_tokenizer
from pipeline.text.encode import describe
from pipeline.text.tokens import Text

BASELINE = "baseline"  # folder in a folder of outputs, for the comparison with the baseline
MAX_PARALLEL = 2  # contenders whose stages run at a time
# packages that predictions and scores do not depend on
_IRRELEVANT_PACKAGES = {"cli", "flow", "report", "tracking"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A trained run.

    `label` is its name in the record. `params` is a params.yaml with its run and its corpus.
    `model` and `vocab` are the folders that the train and vocab stages wrote for it."""

    label: str
    params: Path
    run: str
    model: Path
    vocab: Path

    def block(self) -> Run:
        """Its block of `params`."""
        return params.run(self.params, self.run)

    def identity(self) -> str:
        """The md5 of all that its predictions depend on: weights, vocabulary, search settings."""
        block = self.block()
        settings = [
            block.family,
            block.task,
            block.seed,
            block.model,
            block.objective,
            block.search,
        ]
        return _digest(
            [retokenize.md5([self.model / "model.safetensors", *_files(self.vocab)]), settings]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringSettings:
    """Settings for scoring both contenders, in place of those in their own blocks of params.yaml.

    `text`: normalization of references and predictions before scoring, None without texts. `bleu`:
    BLEU's tokenizer.
    """

    text: Text | None
    bleu: str

    @classmethod
    def of(cls, champion: Contender, challenger: Contender, tokens: Path) -> "ScoringSettings":
        """Settings under which everything counts that at least one contender can write.

        Case counts if one of them writes capitals. Characters other than letters count if one
        writes them. Spaces around punctuation count if one writes them as in the raw text. The
        tokenizer is that of the challenger's corpus, with its tokens in the folder `tokens`."""
        first = describe(champion.vocab)
        second = describe(challenger.vocab)
        text = None
        if first.level is not None and second.level is not None:
            text = Text(
                # Splitting into subword pieces is lossless, so "bpe" keeps the raw text.
                level=first.level if first.level == second.level else "bpe",
                lowercase=first.lowercase and second.lowercase,
                letters_only=first.letters_only and second.letters_only,
                max_tokens=None,
            )

        bleu, _ = bleu_tokenizer(challenger.params, challenger.block().corpus, tokens)
        return cls(text=text, bleu=bleu)

    def params(self, contender: Contender) -> str:
        """The params file for scoring the contender's predictions, as YAML."""
        block = contender.block()
        corpus = config.section(contender.params, f"corpora.{block.corpus}")
        content = {
            "evaluation": config.section(contender.params, "evaluation"),
            "corpora": {
                block.corpus: corpus
                | {
                    "text": None if self.text is None else asdict(self.text),
                    "bleu_tokenizer": self.bleu,
                }
            },
            **params.sections(contender.run, asdict(block)),
        }
        return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True, slots=True)
class StageOutputs:
    """Outputs of the stages for one contender and one test set."""

    folder: Path

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def scores(self) -> Path:
        return self.folder / "scores"

    def notes(self) -> list[str]:
        """Warnings about the scores by the evaluate stage."""
        path = self.folder / "metrics.json"
        metrics = metrics_file.read(path, f"Remove {self.folder}; it is written again.")
        return list(metrics.get("notes", []))


def run_stages(
    root: Path,
    contenders: Sequence[Contender],
    tokens: Mapping[str, Path],
    scoring: ScoringSettings,
    work: Path,
    launch: Launch | None,
) -> dict[str, list[StageOutputs]]:
    """Return the outputs of each contender for each test set, by the test set's name.

    `work` keeps these and nothing else; the caller holds a lock on it. When this ends early, for
    whatever reason, the running stages are killed, unless `launch` is not a `Commands`."""
    folders = {
        name: [work / _key(contender, test_set, scoring) for contender in contenders]
        for name, test_set in tokens.items()
    }
    # By folder: contenders or test sets with the same key are evaluated once.
    missing = {
        folder: (contender, tokens[name])
        for name, by_contender in folders.items()
        for contender, folder in zip(contenders, by_contender, strict=True)
        if not folder.exists()
    }

    # Run the stages of the missing ones; the first error ends all of them.
    commands = launch or Commands(root)
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        futures = [
            pool.submit(_evaluate, contender, test_set, scoring, folder, commands)
            for folder, (contender, test_set) in missing.items()
        ]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too: no stage may outlive the comparison
            if isinstance(commands, Commands):
                commands.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

    _prune(work, {folder.name for by_contender in folders.values() for folder in by_contender})
    return {
        name: [StageOutputs(folder) for folder in by_contender]
        for name, by_contender in folders.items()
    }


def _evaluate(
    contender: Contender, tokens: Path, scoring: ScoringSettings, folder: Path, launch: Launch
) -> None:
    """Write the contender's outputs for the test set `tokens` to `folder`."""
    # The log stays if a stage fails: its error names the file.
    log = folder.with_suffix(".log")
    log.unlink(missing_ok=True)
    params_file = contender.params.resolve()
    model = contender.model.resolve()
    vocab = contender.vocab.resolve()

    # Atomic: a folder that exists is complete, and is a cache hit.
    with atomic_dir(folder.resolve()) as partial:
        outputs = StageOutputs(partial)
        own_tokens = partial / "tokens"
        encoded = partial / "encoded"
        retokenize.retokenize(tokens, describe(contender.vocab), own_tokens)
        run_stage(
            launch,
            log,
            "encode",
            params=params_file,
            tokens=own_tokens,
            vocab=vocab,
            out=encoded,
        )
        run_stage(
            launch,
            log,
            "predict",
            contender.run,
            params=params_file,
            model=model,
            vocab=vocab,
            encoded=encoded,
            out=outputs.predictions,
        )

        # Scores use the settings common to both contenders.
        scoring_params = partial / "params.yaml"
        scoring_params.write_text(scoring.params(contender), encoding="utf-8")
        run_stage(
            launch,
            log,
            "evaluate",
            contender.run,
            params=scoring_params,
            predictions=outputs.predictions,
            tokens=own_tokens,
            encoded=encoded,
            model=model,
            out=outputs.scores,
            metrics=partial / "metrics.json",
            plots=partial / "plots",
        )
    log.unlink(missing_ok=True)


def _key(contender: Contender, tokens: Path, scoring: ScoringSettings) -> str:
    """The md5 of all that `_evaluate` reads, this project's code among it."""
    sources = sorted(
        file for package in ("pipeline", "stages") for file in (CODE / package).rglob("*.py")
    )
    code = retokenize.md5(
        file for file in sources if file.relative_to(CODE).parts[1] not in _IRRELEVANT_PACKAGES
    )

    # The corpus's `samples` are predicted too; `training` and `text` are read by the stages.
    block = contender.block()
    corpus: dict[str, Any] = config.section(contender.params, f"corpora.{block.corpus}")
    evaluation = config.section(contender.params, "evaluation")
    settings = [block.training, corpus["samples"], corpus["text"], asdict(scoring), evaluation]
    files = [
        retokenize.md5(_files(contender.model)),
        retokenize.md5(retokenize.test_set_files(tokens)),
        code,
    ]
    return _digest([contender.identity(), contender.run, settings, files])


def _prune(work: Path, keys: set[str]) -> None:
    """Remove everything but the lock, the baseline's folder and those named by `keys`."""
    for path in work.iterdir():
        if path.name in keys | {"lock", BASELINE}:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _digest(facts: Any) -> str:
    return md5(json.dumps(facts, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
