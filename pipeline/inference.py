"""A trained run, loaded once: text in, text out. What the predict stage, the command line and
serving have in common."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.contracts import BOS, EOS, PAD, UNK, Attentive, Prompt
from pipeline.core import config, params, tables
from pipeline.core.errors import UserError, refuse
from pipeline.core.seeding import derive
from pipeline.decoding import Hypothesis
from pipeline.decoding.rules.ensemble import Ensemble
from pipeline.text.encode import Codec, describe
from pipeline.training import checkpoint, devices, loop

BATCH = 64  # texts searched for at a time, fewer where texts are long or the beam is wide
LARGEST_N_BEST = 100  # answers to one text; a run whose own beam is wider may give as many as that

# Rows x tokens of a batch, at which memory stays at a few hundred MB: 64 texts of 256 tokens in a
# beam of 10.
_BEAM_WIDTH = BATCH * 256 * 10
_MAX_TOKENS = 10

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class OutOfTime(UserError):
    """A request that takes more time than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Within the block, `check_time` raises OutOfTime once the seconds are over."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def batches(lengths: Sequence[int], max_texts: int, max_tokens: int) -> Iterator[slice]:
    """Divide texts, in their order, into batches of at most `max_texts` and `max_tokens`, padding
    counted.

    `lengths` are those of the texts in tokens. A longer text makes a batch by itself. OutOfTime
    between two batches."""
    start = 0
    while start < len(lengths):
        check_time()
        candidates = lengths[start : start + max_texts]
        size = max(1, min(len(candidates), max_tokens // max(1, *candidates)))
        yield slice(start, start + size)
        start += size


def check_time() -> None:
    """Raise OutOfTime if a time limit is set and over; called between batches, since a search
    cannot be interrupted."""
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        raise OutOfTime(
            "request: got more work than its time allows; expected less. Send fewer or shorter "
            "texts."
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """A hypothesis as text."""

    text: str
    score: float
    log_prob: float


EMPTY = Prediction("", 0.0, 0.0)  # the one answer to a text without tokens, of which it is certain


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention weights of a translation by name (layer and head): rows are answered tokens,
    columns are tokens read.

    Rows and columns are real tokens only, <eos> among them; each row of weights sums to 1.
    """

    columns: list[str]
    rows: list[str]
    weights: dict[str, NDArray[np.float32]]


def attention_table(looked: Sequence[Attention], numbers: Sequence[int]) -> pa.Table:
    """`tables.ATTENTION`: one row for each sample, by its number, and named set of weights."""
    rows = [
        {
            "row": number,
            "name": name,
            "columns": sample.columns,
            "rows": sample.rows,
            "weights": weights.ravel(),
        }
        for number, sample in zip(numbers, looked, strict=True)
        for name, weights in sample.weights.items()
    ]
    return pa.Table.from_pylist(rows, tables.ATTENTION)


def load_run(model: Path, search: dict[str, Any] | None) -> params.Run:
    """The block that the model in this folder was trained with, and the `search:` to use, which
    training does not know."""
    facts = checkpoint.read_config(model, "run.family")["run"]
    block: params.Run = config.load(
        params.Run, facts | {"search": search}, str(model / "config.json")
    )
    return block


def check_sizes(model: Path, vocab: Path, sides: tuple[str, str]) -> None:
    """Refuse a vocabulary that is absent, or that has other numbers of ids on the `sides` than the
    model in its folder."""
    if not (vocab / "vocab.json").exists():
        raise refuse(
            str(vocab),
            "no such vocabulary",
            "the vocab stage's output",
            "Run `dvc repro`, or `dvc pull`.",
        )
    have, sizes = (
        describe(vocab).sizes,
        checkpoint.read_config(model, "sizes.source", "sizes.target")["sizes"],
    )
    got, want = [have.get(side, 0) for side in sides], [sizes["source"], sizes["target"]]
    if got != want:
        expected = f"{want[0]} and {want[1]}, which the model was trained with"
        raise refuse(str(vocab), f"{got[0]} and {got[1]} ids", expected, "Run `dvc repro`.")


def load_trained_model(
    run: params.Run, where: str, model: Path, vocab: Path, device: torch.device
) -> nn.Module:
    """The run's model, ready on the device with the run's threads; UserError if the vocabulary is
    not the one it knows."""
    check_sizes(
        model, vocab, config.named_module("pipeline.tasks", run.task, f"{where}.task").SOURCE_TARGET
    )
    devices.prepare(config.load(loop.Config, run.training, f"{where}.training").threads)
    return checkpoint.load_model(model, device)


@dataclass(frozen=True, slots=True)
class Session:
    """A model with its vocabulary and search; `read` and `say` are the codecs of what is read and
    of what is answered."""

    model: nn.Module | Ensemble
    task: ModuleType
    read: Codec
    say: Codec
    method: ModuleType
    search: Any
    device: torch.device
    seed: int

    @classmethod
    def open(
        cls, model: Path, vocab: Path, search: dict[str, Any] | None, device: str = "auto"
    ) -> "Session":
        """The run in the folder `model` with its corpus's vocabulary and a `search:` block."""
        run = load_run(model, search)
        return cls.of(
            run, str(model / "config.json"), model, vocab, devices.choose(device, "device")
        )

    @classmethod
    def of(
        cls, run: params.Run, where: str, model: Path, vocab: Path, device: torch.device
    ) -> "Session":
        """As `open`, for the block `run`, called `where` in messages."""
        if run.search is None:
            raise refuse(
                f"{where}.search",
                None,
                "a section with a method",
                "Name a run that answers with text.",
            )
        method = config.named_module(
            "pipeline.decoding", run.search.get("method", "nothing"), f"{where}.search.method"
        )
        search = config.load(method.Config, run.search, f"{where}.search")
        task, network = (
            config.named_module("pipeline.tasks", run.task, f"{where}.task"),
            load_trained_model(run, where, model, vocab, device),
        )
        read, say = (Codec.load(vocab, side) for side in task.SOURCE_TARGET)
        return cls(network, task, read, say, method, search, device, run.seed)

    def together(self, others: Sequence["Session"]) -> "Session":
        """An ensemble with the models of other sessions, which share the vocabulary; searched as
        this one is."""
        models: list[Any] = [session.model for session in (self, *others)]
        return dataclasses.replace(self, model=Ensemble(models))

    def translate(
        self, texts: Sequence[str], n_best: int | None = None, prefixes: Sequence[str] | None = None
    ) -> list[list[Prediction]]:
        """The answers to each text, best first; as many as the run's search gives unless `n_best`
        says otherwise.

        With `prefixes`, one for each text, every answer to a text begins with its prefix; "" is
        none. A text without tokens has one answer, which is empty: training rejects such rows, so a
        model could only make one up."""
        if self.continues:
            raise refuse("run", "a language model", "a translator", "Use generate.")
        asked = self if n_best is None else self._with_n_best(n_best)

        places = self.places_with_tokens(texts)
        some_texts = [texts[place] for place in places]
        some_prefixes = None if prefixes is None else [prefixes[place] for place in places]

        prompts = asked._prompts(some_texts, some_prefixes)
        results = [
            hypotheses
            for prompt in prompts
            for hypotheses in asked.searched(prompt, asked.generator())
        ]

        answers = [[EMPTY] for _ in texts]
        for place, hypotheses in zip(places, results, strict=True):
            answers[place] = asked.answers(hypotheses)
        return answers

    def places_with_tokens(self, texts: Sequence[str]) -> list[int]:
        """Find the texts that have a token once they are read as the training text was; return
        their positions."""
        return [place for place, ids in enumerate(self._read(texts)) if ids]

    def generate(self, prefixes: Sequence[str], seed: int | None = None) -> list[str]:
        """Each prefix with what the language model says next; another seed, another text where the
        search samples."""
        if not self.continues:
            raise refuse("run", "a translator", "a language model", "Use translate.")
        generator = self.generator(seed)
        found = [
            best
            for prompt in self._prompts(prefixes)
            for [best, *_] in self.searched(prompt, generator)
        ]
        begun = self.read.encode(pa.array(prefixes, pa.string())).to_pylist()
        return self.say.decode_batch(
            [[*ids, *best.ids] for ids, best in zip(begun, found, strict=True)]
        )

    def attention(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None
    ) -> list[tuple[Prediction, Attention]]:
        """The best answer to each text and where the model looked for each of its tokens; UserError
        if it cannot say, or for a text without tokens."""
        if not isinstance(self.model, Attentive):
            raise refuse(
                "run",
                type(self.model).__module__.rpartition(".")[2],
                "a model with attention",
                "Name another run.",
            )
        if len(self.places_with_tokens(texts)) < len(texts):
            raise refuse("text", "a blank one", "a text with words to look at")
        pairs = []
        for prompt in self._prompts(texts, prefixes):
            best = [hypotheses[0] for hypotheses in self.searched(prompt, self.generator())]
            pairs += list(zip(self.answers(best), self.looked(prompt, best), strict=True))
        return pairs

    def forced(self, prefixes: Sequence[str]) -> Tensor:
        """The prefixes as a prompt has them (`prefix_BP`); UserError for a word that the vocabulary
        lacks."""
        rows = [
            torch.tensor(ids, dtype=torch.long)
            for ids in self.say.encode(pa.array(prefixes, pa.string())).to_pylist()
        ]
        for prefix, row in zip(prefixes, rows, strict=True):
            if UNK in row:
                raise refuse("prefix", prefix, "words of the target vocabulary", "Use other words.")
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.device)

    def generator(self, seed: int | None = None) -> torch.Generator:
        """The random stream of a search: the run's own, or another one."""
        return torch.Generator().manual_seed(derive(self.seed if seed is None else seed, "search"))

    def searched(self, prompt: Prompt, generator: torch.Generator) -> list[list[Hypothesis]]:
        """Hypotheses of the run's search: by sentence, best first."""
        found: list[list[Hypothesis]] = self.method.search(
            self.model, prompt, self.search, generator
        )
        return found

    def answers(self, hypotheses: Sequence[Hypothesis]) -> list[Prediction]:
        """Hypotheses as text, in their order."""
        texts = self.say.decode_batch([h.ids for h in hypotheses])
        return [
            Prediction(text, h.score, h.log_prob) for text, h in zip(texts, hypotheses, strict=True)
        ]

    def prompt(self, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> Prompt:
        """Raw texts as the model reads them, and what the answers must begin with."""
        return self._prompt(self._read(texts), prefixes)

    def looked(self, prompt: Prompt, best: Sequence[Hypothesis]) -> list[Attention]:
        """Attention weights of an attentive model for one given hypothesis per sentence."""
        assert isinstance(self.model, Attentive)
        spoken = [[*h.ids, EOS] if len(h.ids) < self.search.max_length else [*h.ids] for h in best]
        fed = [torch.tensor([BOS, *ids[:-1]]) for ids in spoken]
        target_BT = nn.utils.rnn.pad_sequence(fed, batch_first=True, padding_value=PAD).to(
            self.device
        )
        with torch.inference_mode():
            named_BTS = {
                name: w.float().cpu().numpy()
                for name, w in self.model.attention(prompt, target_BT).items()
            }
        read = [
            ids[:length]
            for ids, length in zip(prompt.ids_BS.tolist(), prompt.length_B.tolist(), strict=True)
        ]
        return [
            Attention(
                self.read.tokens(columns),
                self.say.tokens(rows),
                {name: w_BTS[i, : len(rows), : len(columns)] for name, w_BTS in named_BTS.items()},
            )
            for i, (columns, rows) in enumerate(zip(read, spoken, strict=True))
        ]

    @property
    def continues(self) -> bool:
        """Return whether what is answered goes on from what is read."""
        read, say = self.task.SOURCE_TARGET
        return bool(read == say)

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        ids: list[list[int]] = self.read.encode(pa.array(texts, pa.string())).to_pylist()
        return ids

    def _prompt(self, ids: Sequence[Sequence[int]], prefixes: Sequence[str] | None) -> Prompt:
        prompt: Prompt = self.task.prompt(pa.array(ids, pa.list_(pa.int32())), self.device)
        return (
            prompt
            if prefixes is None
            else dataclasses.replace(prompt, prefix_BP=self.forced(prefixes))
        )

    def _prompts(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None
    ) -> Iterator[Prompt]:
        """The texts in their order as batches; OutOfTime between two of them."""
        ids = self._read(texts)
        width = max(getattr(self.search, "width", 1), _MAX_TOKENS)
        for batch in batches([len(row) for row in ids], BATCH, _BEAM_WIDTH // width):
            yield self._prompt(ids[batch], None if prefixes is None else prefixes[batch])

    def _with_n_best(self, n_best: int) -> "Session":
        """The same session with a search that gives `n_best` answers, its width raised to that if
        need be."""
        fields = {field.name for field in dataclasses.fields(self.search)}
        largest = max(LARGEST_N_BEST, getattr(self.search, "width", 1))
        if "n_best" not in fields:
            if n_best == 1:
                return self
            raise refuse(
                "n_best",
                n_best,
                f"1, which is all that {self.search.method} search finds",
                "Use method: beam.",
            )
        if not 1 <= n_best <= largest:
            raise refuse("n_best", n_best, f"a number from 1 to {largest}")
        wider = {"width": max(self.search.width, n_best)} if "width" in fields else {}
        return dataclasses.replace(
            self, search=dataclasses.replace(self.search, n_best=n_best, **wider)
        )
