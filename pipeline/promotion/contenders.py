"""Contenders, and what each makes of a test set: the project's own stages, with other paths than
the DAG's.

What a contender made of a test set is kept by the md5 of all that went in, so that a champion is
asked once, however often it is challenged."""

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
from pipeline.scoring.tasks import tokenizer_of
from pipeline.text.encode import describe
from pipeline.text.tokens import Text

MAX_PARALLEL = 2  # contenders asked at a time
# parts of the code that answers do not depend on
_NOT_ASKED = {"cli", "flow", "report", "tracking"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A trained run: `label` is its name in the record, `params` a params.yaml that holds its run
    and its corpus, `model` and `vocab` the folders that the train and vocab stages wrote for it."""

    label: str
    params: Path
    run: str
    model: Path
    vocab: Path

    def block(self) -> Run:
        """Its block of `params`."""
        return params.run(self.params, self.run)

    def identity(self) -> str:
        """The md5 of all that its answers to a text depend on: weights, vocabulary, and how it is
        asked."""
        block = self.block()
        how = [block.family, block.task, block.seed, block.model, block.objective, block.search]
        return _digest(
            [retokenize.md5([self.model / "model.safetensors", *_files(self.vocab)]), how]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringSettings:
    """Settings by which the answers of both contenders are scored, in place of those in their own
    blocks of params.yaml.

    `text`: how references and answers are read before they are compared. `bleu`: BLEU's tokenizer.
    """

    text: Text
    bleu: str

    @classmethod
    def of(cls, champion: Contender, challenger: Contender, tokens: Path) -> "ScoringSettings":
        """Settings under which everything counts that at least one contender can write.

        Case counts if one of them writes capitals, characters other than letters if one writes
        them, and spaces around punctuation if one writes them as in the raw text. The tokenizer is
        that of the challenger's corpus, with its tokens in the folder `tokens`."""
        first, second = describe(champion.vocab), describe(challenger.vocab)
        text = Text(
            # reading by pieces changes nothing
            level=first.level if first.level == second.level else "bpe",
            lowercase=first.lowercase and second.lowercase,
            letters_only=first.letters_only and second.letters_only,
            max_tokens=None,
        )
        bleu, _ = tokenizer_of(challenger.params, challenger.block().corpus, tokens)
        return cls(text=text, bleu=bleu)

    def params(self, contender: Contender) -> str:
        """The params file by which the contender's answers are scored, as YAML."""
        block = contender.block()
        corpus = config.section(contender.params, f"corpora.{block.corpus}")
        content = {
            "evaluation": config.section(contender.params, "evaluation"),
            "corpora": {block.corpus: corpus | {"text": asdict(self.text), "bleu": self.bleu}},
            "runs": {contender.run: asdict(block)},
        }
        return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True, slots=True)
class StageOutputs:
    """Outputs of the stages for one contender and one test set."""

    folder: Path

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def encoded(self) -> Path:
        return self.folder / "encoded"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def scores(self) -> Path:
        return self.folder / "scores"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    def notes(self) -> list[str]:
        """Warnings about the scores by the evaluate stage."""
        notes: list[str] = json.loads(self.metrics.read_text(encoding="utf-8")).get("notes", [])
        return notes


def run_stages(
    root: Path,
    contenders: Sequence[Contender],
    tokens: Mapping[str, Path],
    judging: ScoringSettings,
    work: Path,
    launch: Launch | None,
) -> dict[str, list[StageOutputs]]:
    """Outputs of each contender for each test set, by the test set's name; `work` keeps these and
    nothing else.

    The caller holds a lock on `work`. Whatever ends this ends the stages that it started, unless
    `launch` is no `Commands`."""
    places = {
        name: [work / _key(contender, folder, judging) for contender in contenders]
        for name, folder in tokens.items()
    }
    missing = {
        place: (contender, tokens[name])
        for name, own in places.items()
        for contender, place in zip(contenders, own, strict=True)
        if not place.exists()
    }
    commands = launch or Commands(root)
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        waiting = [
            pool.submit(_ask, contender, folder, judging, place, commands)
            for place, (contender, folder) in missing.items()
        ]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:  # Ctrl-C too: no stage may outlive the comparison
            if isinstance(commands, Commands):
                commands.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _clear(work, {place.name for own in places.values() for place in own})
    return {name: [StageOutputs(place) for place in own] for name, own in places.items()}


def _ask(
    contender: Contender, tokens: Path, judging: ScoringSettings, place: Path, launch: Launch
) -> None:
    """Fill the folder `place` with what the contender makes of the test set in the folder
    `tokens`."""
    log = place.with_suffix(".log")
    log.unlink(missing_ok=True)
    given = {
        "params": contender.params.resolve(),
        "model": contender.model.resolve(),
        "vocab": contender.vocab.resolve(),
    }
    with atomic_dir(place.resolve()) as folder:
        made = StageOutputs(folder)
        retokenize.retokenize(tokens, describe(contender.vocab), made.tokens)
        run_stage(
            launch,
            log,
            "encode",
            params=given["params"],
            tokens=made.tokens,
            vocab=given["vocab"],
            out=made.encoded,
        )
        run_stage(
            launch,
            log,
            "predict",
            contender.run,
            **given,
            encoded=made.encoded,
            out=made.predictions,
        )
        scored = folder / "params.yaml"
        scored.write_text(judging.params(contender), encoding="utf-8")
        read = {
            "predictions": made.predictions,
            "tokens": made.tokens,
            "encoded": made.encoded,
            "model": given["model"],
        }
        written = {"out": made.scores, "metrics": made.metrics, "plots": folder / "plots"}
        run_stage(launch, log, "evaluate", contender.run, params=scored, **read, **written)
    log.unlink(missing_ok=True)


def _key(contender: Contender, tokens: Path, judging: ScoringSettings) -> str:
    """The md5 of all that `_ask` reads, this project's code among it."""
    sources = sorted(
        file for part in ("pipeline", "stages") for file in (CODE / part).rglob("*.py")
    )
    code = retokenize.md5(
        file for file in sources if file.relative_to(CODE).parts[1] not in _NOT_ASKED
    )
    block = contender.block()
    corpus: dict[str, Any] = config.section(contender.params, f"corpora.{block.corpus}")
    evaluation = config.section(contender.params, "evaluation")
    settings = [block.training, corpus["samples"], corpus["text"], asdict(judging), evaluation]
    files = [
        retokenize.md5(_files(contender.model)),
        retokenize.md5(retokenize.test_set_files(tokens)),
        code,
    ]
    return _digest([contender.identity(), contender.run, settings, files])


def _clear(work: Path, kept: set[str]) -> None:
    """Remove what is not among `kept`, but for the lock."""
    for path in work.iterdir():
        if path.name not in kept | {"lock"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _digest(facts: Any) -> str:
    return md5(json.dumps(facts, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
