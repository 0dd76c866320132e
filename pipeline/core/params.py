"""The sections of `params.yaml` as dataclasses.

The blocks inside (`model`, `optim`, `source`, ...) stay plain mappings here; each is loaded by the
module that it configures."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.core import config
from pipeline.core.errors import at_least_one, refuse

SCRATCH = "scratch"  # the `init_from` of a run whose model begins with random weights
SHARED = "shared"  # mappings that other sections merge; no stage reads it
SECTIONS = ("compute", "evaluation", "corpora", SHARED, "settings", "runs")
_NAME = re.compile(r"[a-z0-9_]+(-[0-9]+)?")

Tokenizer = Literal["13a", "intl", "zh", "ja-mecab", "char", "none"]
"""sacreBLEU's tokenizers that work without network and produce the same tokens everywhere (for
ja-mecab, where its library is installed). `flores200` is left out: it downloads its model on first
use and needs the library sentencepiece."""

# the `bleu_tokenizer` of a corpus whose tokenizer is chosen by the script of its references
AUTO: Final = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """Devices, processes and threads; never a DVC parameter."""

    device: str
    slots: int
    processes: int
    workers: int
    cluster: str | None

    def __post_init__(self) -> None:
        at_least_one(slots=self.slots, processes=self.processes, workers=self.workers)
        if self.cluster is not None and not re.fullmatch(
            r"(tcp|tls)://[^/\s]+:[0-9]+", self.cluster
        ):
            raise refuse(
                "cluster",
                self.cluster,
                "a Dask scheduler's address, such as tcp://host:8786, or null",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Number of resamples for every interval and paired test, and the level of the intervals.

    `test`: whether splits other than valid are predicted and scored. False is for tuning, which
    must not look at the test set."""

    bootstrap: int
    confidence: float
    seed: int
    test: bool

    def __post_init__(self) -> None:
        if self.bootstrap < 1:
            raise refuse("bootstrap", self.bootstrap, "at least 1")
        if not 0 < self.confidence < 1:
            raise refuse("confidence", self.confidence, "a share between 0 and 1, such as 0.95")


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Division of rows without an official split: by a stable hash of the source side, or in
    contiguous parts."""

    method: Literal["hash", "contiguous"]
    valid: float
    test: float

    def __post_init__(self) -> None:
        if not (self.valid > 0 and self.test > 0 and self.valid + self.test < 1):
            raise refuse(
                "valid",
                f"{self.valid} with test {self.test}",
                "two positive shares that sum to less than 1",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Folds:
    """Cross validation: rows without an official split go to one of `folds` parts by a stable hash
    of the source side. The part `fold` is test, the next one (after the last, the first) valid, the
    others train."""

    method: Literal["folds"]
    folds: int
    fold: int

    def __post_init__(self) -> None:
        if self.folds < 3:
            raise refuse("folds", self.folds, "at least 3: for train, valid and test")
        if not 0 <= self.fold < self.folds:
            raise refuse(
                "fold",
                self.fold,
                f"a number from 0 to {self.folds - 1}, as there are {self.folds} folds",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfTrain:
    """An official split without valid: this share of the official train becomes it, by a stable
    hash of the source side."""

    method: Literal["out_of_train"]
    valid: float

    def __post_init__(self) -> None:
        if not 0 < self.valid < 1:
            raise refuse("valid", self.valid, "a share between 0 and 1, such as 0.1")


Splitting = Split | Folds | OutOfTrain
_SPLITTINGS: dict[str, type[Splitting]] = {
    "hash": Split,
    "contiguous": Split,
    "folds": Folds,
    "out_of_train": OutOfTrain,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A sentence whose output the reports show."""

    prompt: str
    reference: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """One block under `corpora:`. `format` names a file in `pipeline/corpora/`; `split` is
    `official` or a `Splitting`. `text` is null for a corpus without text.

    `bleu_tokenizer` is BLEU's tokenizer for answers and references. It is the only key that may be
    missing, which counts as `auto`: older files have no such key, and `auto` is right for most
    corpora."""

    format: str
    source: dict[str, Any]
    read: dict[str, Any]
    limit: int | None
    split: Any
    text: dict[str, Any] | None
    bleu_tokenizer: Literal["auto", Tokenizer]
    vocab: dict[str, Any]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One block under `settings:`: all that determines a model besides its data and its seed.

    `search.method` is a file name in `decoding/`. `search` is null for tasks without a search;
    `objective`, `optim` and `training` are null for families that are fitted without gradients."""

    model: dict[str, Any]
    objective: dict[str, Any] | None
    optim: dict[str, Any] | None
    training: dict[str, Any] | None
    search: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One block under `runs:`, with its block under `settings:`. A run trains one model: a setting
    with a seed.

    `family` and `task` are file names in `models/` and `tasks/`. `init_from` is the run whose
    trained model initializes this one, or `scratch`."""

    setting: str
    family: str
    task: str
    corpus: str
    seed: int
    init_from: str
    model: dict[str, Any]
    objective: dict[str, Any] | None
    optim: dict[str, Any] | None
    training: dict[str, Any] | None
    search: dict[str, Any] | None

    def __post_init__(self) -> None:
        at_least_one(seed=self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """The keys of a block under `runs:`; see `Run`."""

    setting: str
    family: str
    task: str
    corpus: str
    seed: int
    init_from: str

    def __post_init__(self) -> None:
        at_least_one(seed=self.seed)


SETTING_KEYS = tuple(field.name for field in fields(Setting))


def check_name(where: str, name: Any) -> None:
    """Raise UserError for a block's name that is not safe in paths, stage names and commands."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refuse(
            where,
            name,
            "a name of small letters, digits and _, for a seed with -NUMBER at its end",
            "Rename the block.",
        )


def corpus(path: Path, name: str) -> Corpus:
    """Load the block `corpora.<name>` of the params file."""
    values = config.section(path, f"corpora.{name}")
    if isinstance(values, Mapping):
        values = {"bleu_tokenizer": AUTO, **values}  # older files have no such key
    block: Corpus = config.load(Corpus, values, f"corpora.{name}")
    return block


def split(block: Corpus, where: str) -> Splitting | None:
    """Load the split of `block`; None for the corpus's official split."""
    if block.split == "official":
        return None
    if not isinstance(block.split, Mapping):
        raise refuse(
            f"{where}.split",
            block.split,
            "official, or a section with a method: " + ", ".join(_SPLITTINGS),
        )
    method = block.split.get("method", "nothing")
    if method not in _SPLITTINGS:
        raise refuse(f"{where}.split.method", method, "one of " + ", ".join(_SPLITTINGS))
    return config.load(_SPLITTINGS[method], block.split, f"{where}.split")


def run(path: Path, name: str) -> Run:
    """Load the block `runs.<name>` of the params file with its setting.

    UserError if the file lacks its setting or its corpus, or if another run of the setting has
    another family or task, or the same seed on the same corpus."""
    runs = config.section(path, "runs")
    where = f"runs.{name}"
    content = config.section(path, where)
    for key in SETTING_KEYS:
        if isinstance(content, Mapping) and key in content:
            raise refuse(
                f"{where}.{key}",
                "a key that was moved",
                f"settings.NAME.{key}, and `setting: NAME` in the run",
                "Move the run's " + ", ".join(SETTING_KEYS) + ".",
            )
    entry = config.load(_Entry, content, where)
    for key, section in (("setting", "settings"), ("corpus", "corpora")):
        choices = config.section(path, section)
        if getattr(entry, key) not in choices:
            raise refuse(
                f"{where}.{key}",
                getattr(entry, key),
                "one of " + ", ".join(choices),
                f"Add it to {section}, or name another.",
            )

    for other, block in runs.items():
        if other == name or not isinstance(block, Mapping):
            continue
        if block.get("setting") == entry.setting:
            _refuse_other_kind(where, entry, other, block)

    setting = config.section(path, f"settings.{entry.setting}")
    config.load(Setting, setting, f"settings.{entry.setting}")
    return config.load(Run, asdict(entry) | setting, where)


def is_trained(path: Path, name: str) -> bool:
    """Whether the run, or one that it begins from or contains, is trained by gradients, so that its
    weights depend on a seed."""
    seen: set[str] = set()
    while name != SCRATCH and name not in seen:
        seen.add(name)
        block = run(path, name)
        if block.optim is not None:
            return True
        name = block.init_from
    return False


def _refuse_other_kind(where: str, entry: _Entry, other: str, block: Mapping[str, Any]) -> None:
    """UserError unless both runs are repetitions of one setting: of one family and task, with
    different seeds or corpora."""
    for key in ("family", "task"):
        if block.get(key) != getattr(entry, key):
            raise refuse(
                f"{where}.{key}",
                getattr(entry, key),
                f"{block.get(key)}, as runs.{other} of the same setting {entry.setting}",
                "Give one of them another setting.",
            )
    if (block.get("seed"), block.get("corpus")) == (entry.seed, entry.corpus):
        raise refuse(
            f"{where}.seed",
            entry.seed,
            f"a seed that runs.{other} of the same setting {entry.setting} does not have",
            "Remove one of them.",
        )


def sections(name: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections `runs` and `settings` of a params file with this run alone.

    `block` has the keys of `Run`."""
    setting = str(block.get("setting") or name)  # older versions were recorded without one
    own = {key: value for key, value in block.items() if key not in SETTING_KEYS}
    own["setting"] = setting
    shared = {key: block[key] for key in SETTING_KEYS if key in block}
    return {"runs": {name: own}, "settings": {setting: shared}}


def check_sections(path: Path) -> None:
    """UserError for a section of the params file that nothing reads."""
    for key in config.read(path):
        if key not in SECTIONS:
            expected = "one of " + ", ".join(SECTIONS)
            raise refuse(str(key), "an unknown section", expected, "Remove it.")


def check_runs(path: Path) -> None:
    """UserError for a run that cannot be loaded; a params file without runs is right."""
    runs = config.read(path).get("runs")
    if isinstance(runs, Mapping):
        for name in runs:
            run(path, name)


def compute(path: Path) -> Compute:
    """Load the section `compute` of the params file."""
    return config.load(Compute, config.section(path, "compute"), "compute")


def evaluation(path: Path) -> Evaluation:
    """Load the section `evaluation` of the params file."""
    return config.load(Evaluation, config.section(path, "evaluation"), "evaluation")


def require_test(path: Path) -> None:
    """UserError if the params file forbids test scores, which decide on a champion."""
    if not evaluation(path).test:
        raise refuse(
            "evaluation.test",
            "false",
            "true, as a champion is chosen by test scores",
            "Set it, and run `dvc repro`.",
        )
