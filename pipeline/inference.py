"""A trained run, loaded once, from text to text: for the predict stage, the command line and
serving."""

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
from pipeline.core import config, params, renamed_keys
from pipeline.core.errors import UserError, refuse
from pipeline.core.seeding import derive
from pipeline.decoding import Hypothesis
from pipeline.decoding.rules.ensemble import Ensemble
from pipeline.text.encode import Codec, describe
from pipeline.text.input_codec import input_codec
from pipeline.training import checkpoint, devices, fitted

BATCH = 64  # texts of a search, at most: fewer if texts are long or the beam is wide
LARGEST_N_BEST = 100  # hypotheses per text; more if the run's beam is wider

# Memory stays at a few hundred MB with hypotheses x tokens of 64 texts of 256 tokens in a beam of
# 10.
_BEAM_WIDTH = 10
_MAX_TOKENS = BATCH * 256 * _BEAM_WIDTH

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class OutOfTime(UserError):
    """A request exceeds its time limit."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Make `check_time` raise OutOfTime in the block after the given seconds."""
    # A context variable: requests in other threads have their own limits.
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def batches(lengths: Sequence[int], max_texts: int, max_tokens: int) -> Iterator[slice]:
    """Divide texts, in order, into batches of at most `max_texts` texts and `max_tokens` tokens,
    with padding.

    `lengths` are the texts' numbers of tokens. A text that exceeds `max_tokens` is a batch by
    itself. OutOfTime between two batches."""
    start = 0
    while start < len(lengths):
        check_time()
        candidates = lengths[start : start + max_texts]
        # Count tokens as if all candidates were as long as the longest: an upper bound.
        size = max(1, min(len(candidates), max_tokens // max(1, *candidates)))
        yield slice(start, start + size)
        start += size


def check_time() -> None:
    """Raise OutOfTime if the time limit has passed. Call it between batches: a search cannot be
    interrupted."""
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        raise OutOfTime(
            "request: got more work than its time allows; expected less. Send fewer or shorter "
            "texts."
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """An output as text: a hypothesis of a search, a label, or a text with its blanks filled."""

    text: str
    score: float
    log_prob: float


EMPTY = Prediction("", 0.0, 0.0)  # for a text without tokens, with probability 1


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """Attention weights of a translation by name (layer and head): rows are output tokens, columns
    are input tokens.

    Tokens include <eos>, but no padding. Each row of weights sums to 1.
    """

    columns: list[str]
    rows: list[str]
    weights: dict[str, NDArray[np.float32]]


def load_run(model: Path, search: dict[str, Any] | None) -> params.Run:
    """Load the block that the model in this folder was trained with, and add the block `search`,
    which is no part of training."""
    facts = checkpoint.read_config(model, "run.family")["run"]
    # Models of older versions have no setting.
    content = {"setting": ""} | renamed_keys.upgrade("runs", facts) | {"search": search}
    block: params.Run = config.load(params.Run, content, str(model / "config.json"))
    return block


def check_sizes(model: Path, vocab: Path, sides: tuple[str, str]) -> None:
    """Raise UserError if the vocabulary is missing, or differs in size from the model's on the
    `sides`."""
    if not (vocab / "vocab.json").exists():
        raise refuse(
            str(vocab),
            "no such vocabulary",
            "the vocab stage's output",
            "Run `dvc repro`, or `dvc pull`.",
        )

    vocab_sizes = describe(vocab).sizes
    source, target = (vocab_sizes.get(side, 0) for side in sides)
    trained = checkpoint.read_config(model, "sizes.source", "sizes.target")["sizes"]
    if (source, target) != (trained["source"], trained["target"]):
        expected = f"{trained['source']} and {trained['target']}, which the model was trained with"
        raise refuse(str(vocab), f"{source} and {target} ids", expected, "Run `dvc repro`.")


def load_trained_model(
    run: params.Run, where: str, model: Path, vocab: Path, device: torch.device
) -> nn.Module:
    """Load the run's model on the device and set the run's number of threads; UserError for a
    vocabulary other than the model's."""
    task = config.named_module("pipeline.tasks", run.task, f"{where}.task")
    check_sizes(model, vocab, task.SOURCE_TARGET)
    loop_config = fitted.training_config(run, where)
    devices.prepare(fitted.THREADS if loop_config is None else loop_config.threads)
    return checkpoint.load_model(model, device)


@dataclass(frozen=True, slots=True)
class Session:
    """A model with its codecs and its search."""

    model: nn.Module | Ensemble
    task: ModuleType
    source_codec: Codec
    target_codec: Codec
    method: ModuleType
    search: Any
    device: torch.device
    seed: int

    @classmethod
    def open(
        cls, model: Path, vocab: Path, search: dict[str, Any] | None, device: str = "auto"
    ) -> "Session":
        """Load the run in the folder `model` with its corpus's vocabulary and a block `search`."""
        run = load_run(model, search)
        return cls.of(
            run, str(model / "config.json"), model, vocab, devices.choose(device, "device")
        )

    @classmethod
    def of(
        cls, run: params.Run, where: str, model: Path, vocab: Path, device: torch.device
    ) -> "Session":
        """As `open`, for the block `run`; `where` is its name in messages."""
        if run.search is None:
            raise refuse(
                f"{where}.search", None, "a section with a method", "Name a run with a search."
            )
        method = config.named_module(
            "pipeline.decoding", run.search.get("method", "nothing"), f"{where}.search.method"
        )
        search = config.load(method.Config, run.search, f"{where}.search")

        task = config.named_module("pipeline.tasks", run.task, f"{where}.task")
        network = load_trained_model(run, where, model, vocab, device)
        source, target = (input_codec(vocab, side) for side in task.SOURCE_TARGET)
        return cls(network, task, source, target, method, search, device, run.seed)

    def ensemble(self, others: Sequence["Session"]) -> "Session":
        """An ensemble with the models of other sessions of the same vocabulary, with this session's
        search."""
        models: list[Any] = [session.model for session in (self, *others)]
        # Members are averaged at each step of the search.
        return dataclasses.replace(self, model=Ensemble(models))

    def translate(
        self, texts: Sequence[str], n_best: int | None = None, prefixes: Sequence[str] | None = None
    ) -> list[list[Prediction]]:
        """The outputs for each text, best first; `n_best` replaces that of the run's search.

        With `prefixes`, one per text, every output begins with its prefix; "" is none. A text
        without tokens has one output, which is empty: training rejects such rows, so a model's
        output would be arbitrary."""
        if self.continues_prompt:
            raise refuse("run", "a language model", "a translator", "Use generate.")
        session = self if n_best is None else self._with_n_best(n_best)

        # Search for the texts with tokens only. Each batch starts with a new generator, so that
        # sampling does not depend on earlier batches.
        positions = self.positions_with_tokens(texts)
        prompts = session._prompts(
            [texts[position] for position in positions],
            None if prefixes is None else [prefixes[position] for position in positions],
        )
        results = [
            hypotheses
            for prompt in prompts
            for hypotheses in session.run_search(prompt, session.generator())
        ]

        outputs = [[EMPTY] for _ in texts]
        for position, hypotheses in zip(positions, results, strict=True):
            outputs[position] = session.decode_hypotheses(hypotheses)
        return outputs

    def positions_with_tokens(self, texts: Sequence[str]) -> list[int]:
        """Positions of the texts that have tokens after the normalization of the training text."""
        return [position for position, ids in enumerate(self._encode(texts)) if ids]

    def generate(self, prefixes: Sequence[str], seed: int | None = None) -> list[str]:
        """Each prefix with its continuation by the language model; `seed` changes the texts of a
        search that samples."""
        if not self.continues_prompt:
            raise refuse("run", "a translator", "a language model", "Use translate.")

        generator = self.generator(seed)
        continuations = [
            best
            for prompt in self._prompts(prefixes)
            for [best, *_] in self.run_search(prompt, generator)
        ]
        return self.target_codec.decode_batch(
            [
                [*ids, *best.ids]
                for ids, best in zip(self._encode(prefixes), continuations, strict=True)
            ]
        )

    def attention(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None
    ) -> list[tuple[Prediction, AttentionWeights]]:
        """The best output for each text, with the attention weights of its tokens. Words that the
        model does not know are named: `house (unk)`.

        UserError for a model without attention weights, or a text without tokens."""
        if not isinstance(self.model, Attentive):
            family = type(self.model).__module__.rpartition(".")[2]
            raise refuse("run", family, "a model with attention", "Name another run.")
        if len(self.positions_with_tokens(texts)) < len(texts):
            raise refuse("text", "a text without tokens", "a text with words")

        # Search first, then compute the weights of the best hypotheses by teacher forcing.
        pairs = []
        for prompt in self._prompts(texts, prefixes):
            best = [hypotheses[0] for hypotheses in self.run_search(prompt, self.generator())]
            pairs += list(
                zip(self.decode_hypotheses(best), self.attention_weights(prompt, best), strict=True)
            )
        return [
            (answer, self.name_unknown(weights, text))
            for (answer, weights), text in zip(pairs, texts, strict=True)
        ]

    def name_unknown(self, weights: AttentionWeights, text: str) -> AttentionWeights:
        """The weights of a raw text, with its words in place of `<unk>`: `house (unk)`."""
        columns = self.source_codec.name_unknown(weights.columns, text)
        return dataclasses.replace(weights, columns=columns)

    def encode_prefixes(self, prefixes: Sequence[str]) -> Tensor:
        """`prefix_BP` of a prompt; UserError for a word that the vocabulary lacks."""
        rows = [
            torch.tensor(ids, dtype=torch.long)
            for ids in self.target_codec.encode(pa.array(prefixes, pa.string())).to_pylist()
        ]
        for prefix, row in zip(prefixes, rows, strict=True):
            if UNK in row:
                raise refuse("prefix", prefix, "words of the target vocabulary", "Use other words.")
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.device)

    def generator(self, seed: int | None = None) -> torch.Generator:
        """The random generator of a search, seeded with `seed` or the run's seed."""
        return torch.Generator().manual_seed(derive(self.seed if seed is None else seed, "search"))

    def run_search(self, prompt: Prompt, generator: torch.Generator) -> list[list[Hypothesis]]:
        """Hypotheses of the run's search for each sentence, best first."""
        hypotheses: list[list[Hypothesis]] = self.method.search(
            self.model, prompt, self.search, generator
        )
        return hypotheses

    def decode_hypotheses(self, hypotheses: Sequence[Hypothesis]) -> list[Prediction]:
        """Hypotheses as text, in the same order."""
        texts = self.target_codec.decode_batch([h.ids for h in hypotheses])
        return [
            Prediction(text, h.score, h.log_prob) for text, h in zip(texts, hypotheses, strict=True)
        ]

    def prompt(self, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> Prompt:
        """Encode raw texts, and the prefixes of their outputs, as one prompt."""
        return self._prompt(self._encode(texts), prefixes)

    def attention_weights(
        self, prompt: Prompt, best: Sequence[Hypothesis]
    ) -> list[AttentionWeights]:
        """Attention weights of an attentive model for one hypothesis per sentence, by teacher
        forcing."""
        assert isinstance(self.model, Attentive)

        # A hypothesis of max_length tokens was cut off before <eos>.
        outputs = [[*h.ids, EOS] if len(h.ids) < self.search.max_length else [*h.ids] for h in best]
        shifted = [torch.tensor([BOS, *ids[:-1]]) for ids in outputs]
        target_BT = nn.utils.rnn.pad_sequence(shifted, batch_first=True, padding_value=PAD)
        with torch.inference_mode():
            weights = self.model.attention(prompt, target_BT.to(self.device))
            arrays = {name: w_BTS.float().cpu().numpy() for name, w_BTS in weights.items()}

        # Cut off the padding of both sides.
        inputs = [
            ids[:length]
            for ids, length in zip(prompt.ids_BS.tolist(), prompt.length_B.tolist(), strict=True)
        ]
        return [
            AttentionWeights(
                self.source_codec.tokens(columns),
                self.target_codec.tokens(rows),
                {name: w_BTS[i, : len(rows), : len(columns)] for name, w_BTS in arrays.items()},
            )
            for i, (columns, rows) in enumerate(zip(inputs, outputs, strict=True))
        ]

    @property
    def continues_prompt(self) -> bool:
        """True for a language model, whose output continues the input: both are one side."""
        source, target = self.task.SOURCE_TARGET
        return bool(source == target)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.source_codec.encode(pa.array(texts, pa.string())).to_pylist()
        return ids

    def _prompt(self, ids: Sequence[Sequence[int]], prefixes: Sequence[str] | None) -> Prompt:
        prompt: Prompt = self.task.prompt(pa.array(ids, pa.list_(pa.int32())), self.device)
        if prefixes is None:
            return prompt
        return dataclasses.replace(prompt, prefix_BP=self.encode_prefixes(prefixes))

    def _prompts(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None
    ) -> Iterator[Prompt]:
        """The texts, in order, as batches; OutOfTime between two batches."""
        ids = self._encode(texts)
        width = max(getattr(self.search, "width", 1), _BEAM_WIDTH)
        for batch in batches([len(row) for row in ids], BATCH, _MAX_TOKENS // width):
            yield self._prompt(ids[batch], None if prefixes is None else prefixes[batch])

    def _with_n_best(self, n_best: int) -> "Session":
        """The session with a search for `n_best` hypotheses, in a beam of at least that width."""
        fields = {field.name for field in dataclasses.fields(self.search)}
        largest = max(LARGEST_N_BEST, getattr(self.search, "width", 1))
        if "n_best" not in fields:
            if n_best == 1:
                return self
            raise refuse(
                "n_best",
                n_best,
                f"1, the only number that {self.search.method} search supports",
                "Use method: beam.",
            )
        if not 1 <= n_best <= largest:
            raise refuse("n_best", n_best, f"a number from 1 to {largest}")

        # A beam cannot return more hypotheses than its width.
        changes = {"n_best": n_best}
        if "width" in fields:
            changes["width"] = max(self.search.width, n_best)
        return dataclasses.replace(self, search=dataclasses.replace(self.search, **changes))
