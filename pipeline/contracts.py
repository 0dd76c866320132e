"""The interface of models, tasks, training and decoding: protocols, batch dataclasses and special
ids, and nothing else.

Shapes: B batch, S source, T target or time, H hidden, V vocabulary, C classes, N real (unpadded)
positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from pipeline.text.specials import BOS, EOS, PAD, UNK

__all__ = [
    "BOS",
    "EOS",
    "MASK",
    "PAD",
    "UNK",
    "Attentive",
    "AttentiveDecodable",
    "BlankFiller",
    "Classifier",
    "Decodable",
    "LanguageModel",
    "Log",
    "Loss",
    "MaskedLanguageModel",
    "Prompt",
    "Sizes",
    "SupportsPretrained",
    "Translator",
    "WordVectors",
]

MASK = -1
"""Stands for a word that is to be guessed: no vocabulary has this id, a masked language model gives
it its own row."""

Log = Callable[[dict[str, float], int], None]
"""`log(metrics, step)`: where the training loop tells its figures; tests pass a list's append."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Number of ids in each side's vocabulary, and whether both sides share one; a language model's
    always do."""

    source: int
    target: int
    shared: bool


class Loss(NamedTuple):
    """A summed loss in nats, with gradient, and over how many positions; means are taken at the
    edge only."""

    total: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """Input of a search or a classifier: `ids_BS` padded with PAD and `length_B`, on the model's
    device.

    `prefix_BP`, padded with PAD, holds what each sentence's hypotheses must begin with. Models
    ignore it: search obeys it."""

    ids_BS: Tensor
    length_B: Tensor
    prefix_BP: Tensor | None = None


class Decodable(Protocol[State]):
    """All that search knows of a model. A state is a value: `step` and `reorder` return a new one
    and keep the old."""

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        """Read the prompt: the state after it, and first_B (int64), the ids to feed to the first
        `step`."""

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        """Feed one id per row: log_probs_BV (float32, normalised) of the next id, and the state
        after it."""

    def reorder(self, state: State, rows_B: Tensor) -> State:
        """The state whose row i is the old row rows_B[i]; rows may repeat, be dropped, or change in
        number."""


@runtime_checkable
class AttentiveDecodable(Decodable[State], Protocol[State]):
    """A Decodable that can say at every step where it looked, for searches that mind what of the
    source was covered."""

    def step_with_attention(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        """As `step`, and weights_BS: a distribution over the source for the next id, nothing of it
        on padding."""


@runtime_checkable
class Attentive(Protocol):
    """A translator that can say where it looked."""

    def attention(self, prompt: Prompt, target_BT: Tensor) -> dict[str, Tensor]:
        """Weights by name (e.g. `decoder 1 head 2`), each BTS: what each target step gave to each
        source position."""


@runtime_checkable
class SupportsPretrained(Protocol):
    """A model that can begin from a run of another family; from one of its own every model can.

    Its module's `INIT_FROM` names those families, each with the keys of its `model:` that must have
    the same values here and what they are called here, or None for all of them by the same names.
    """

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Take over what both have in common, by name; the sizes have been compared."""


class Task(Protocol):
    """An objective over its data: what the training loop needs of it, blind to the model."""

    def plan(self, epoch: int) -> Sequence[Any]:
        """Plan the epoch's batches, in order; a function of the run's seed and the epoch alone."""

    def batch(self, planned: Any) -> Any:
        """One planned batch as tensors on the device."""

    def loss(self, model: Any, batch: Any, carry: Any) -> tuple[Loss, Any]:
        """The summed training loss, and what the next batch of the epoch is to be given (None or a
        tuple of tensors)."""

    def validate(self, model: Any) -> tuple[Loss, dict[str, float]]:
        """The summed validation loss in nats, unsmoothed, which alone picks the best weights; and
        whatever else there is to show beside it, by name, such as accuracy."""

    def describe(self, planned: Any) -> str:
        """Name the rows of a planned batch, for messages."""


class LanguageModel(Protocol):
    """Next-token prediction over a stream, with a state carried from window to window."""

    def hidden(self, ids_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        """hidden_BTH after each id, and the state (None or a tuple of tensors) after the last."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, in memory of their own, as the loss writes there."""


class Translator(Protocol):
    """Target given source, teacher-forced."""

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        """hidden_BTH after reading target_BT (which begins with BOS), from which the next id is
        predicted."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, in memory of their own, as the loss writes there."""


class BlankFiller(Protocol):
    """Every word given all the others of its row."""

    def hidden(self, ids_BT: Tensor, length_B: Tensor) -> Tensor:
        """hidden_BWH, W = T - 2, of the words of rows from BOS to EOS, PAD beyond; none knows its
        own word's id."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, in memory of their own, as the loss writes there."""


class Classifier(Protocol):
    """The label of a text."""

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC, which padding and the batch's other texts do not change."""


class MaskedLanguageModel(Protocol):
    """Words given the words on both sides of them, and whether one sentence follows another."""

    def read(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        """hidden_BSH of BOS, a sentence, EOS, and another sentence (segment 1) with EOS, if there
        is one; MASK may occur."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV of the word at each position, in memory of their own, as the loss writes
        there."""

    def follows(self, hidden_BSH: Tensor) -> Tensor:
        """logits_B2 that the second sentence stood elsewhere (0), or follows the first (1)."""


class WordVectors(Protocol):
    """Two tables of vectors of D numbers: a word as it is read, and as it is predicted."""

    def input(self, ids: Tensor) -> Tensor:
        """Vectors v of the ids, in one more dimension D."""

    def output(self, ids: Tensor) -> Tensor:
        """Vectors v' of the ids, in one more dimension D."""
