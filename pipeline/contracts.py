"""Interfaces between models, tasks, training and decoding: protocols, batch dataclasses and special
ids.

Shapes: B batch, S source, T target or time, H hidden, V vocabulary, C classes, N real (unpadded)
positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import pyarrow as pa
from torch import Tensor, nn

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
    "ComposedVectors",
    "Constrained",
    "Decodable",
    "Fitted",
    "Forecaster",
    "GloveVectors",
    "ImageClassifier",
    "LanguageModel",
    "Log",
    "Loss",
    "MaskedLanguageModel",
    "PairClassifier",
    "Prompt",
    "Refitted",
    "Sizes",
    "Spelled",
    "StreamScorer",
    "SupportsPretrained",
    "Translator",
    "WordVectors",
]

MASK = -1
"""Id of a masked word. It is in no vocabulary; masked language models have an embedding for it."""

Log = Callable[[dict[str, float], int], None]
"""`log(metrics, step)`: receives the metrics of the training loop."""

State = TypeVar("State")
"""State of a model between decoding steps, opaque to the search."""


# Values that cross the interfaces


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the source and target vocabularies, and whether both are the same vocabulary (always
    so for a language model)."""

    source: int
    target: int
    shared: bool


class Loss(NamedTuple):
    """Sum of the loss in nats, with gradient, and the number of its tokens.

    Sums of batches can be added; callers divide once, when they report a mean."""

    total: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """Input of a search or a classifier, on the model's device: `ids_BS`, padded with PAD, and
    `length_B`.

    `prefix_BP`, padded with PAD: the forced beginning of each row's hypotheses. Search obeys it;
    models ignore it."""

    ids_BS: Tensor
    length_B: Tensor
    prefix_BP: Tensor | None = None


# Decoding: what search calls


class Decodable(Protocol[State]):
    """Model that search can decode from, step by step.

    A state is immutable: `step` and `reorder` return a new one and leave the old one valid."""

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        """Read the prompt. Return the state after it, and first_B (int64), the ids to feed to the
        first `step`."""

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        """Feed one id per row. Return log_probs_BV (float32, normalised) of the next id, and the
        state after `last_B`."""

    def reorder(self, state: State, rows_B: Tensor) -> State:
        """Select rows: row i of the new state is row rows_B[i] of the old one.

        Rows may be repeated or dropped, and their number may change."""


@runtime_checkable
class AttentiveDecodable(Decodable[State], Protocol[State]):
    """Decodable that returns the attention weights of every step, for the coverage penalty."""

    def step_with_attention(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        """As `step`, with weights_BS: for the next id, a distribution over the source that is 0 on
        padding."""


@runtime_checkable
class Attentive(Protocol):
    """Translator that returns its attention weights."""

    def attention(self, prompt: Prompt, target_BT: Tensor) -> dict[str, Tensor]:
        """Weights BTS of each target step over the source positions, by name (`layer 1 head 2`)."""


# Training: what the loop calls


@runtime_checkable
class SupportsPretrained(Protocol):
    """Model that can be initialised from a run of another family. (Runs of the same family need no
    support.)

    `INIT_FROM` of the model's module maps each such family to {key of its `model:`: key of this
    family's `model:` that must have the same value}. None stands for all keys, with equal names."""

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors that both models have, by name. The caller has compared the sizes."""


@runtime_checkable
class Constrained(Protocol):
    """Model whose weights have a constraint."""

    def constrain(self) -> None:
        """Change the weights so that they meet it; called after each update."""


@runtime_checkable
class Fitted(Protocol):
    """Model that is fitted in one pass over the training rows, without gradients.

    Its state is buffers. Buffers that are empty before `fit` have sizes that only the training rows
    determine; a checkpoint is loaded with the sizes of its file. Buffers count as the model's
    parameters, except those of int64, the type of ids."""

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Fit the model to the encoded rows `train`; choose what is not estimated on `valid`.

        Returns the validation metrics by name, among them `loss`, in nats per token (or per row, if
        a row has one label), as `Task.validate` of the same task gives it; no metrics if the scores
        of the task depend on its objective, which then computes them."""


@runtime_checkable
class Refitted(Fitted, Protocol):
    """Fitted model that may have been fitted again, to the validation rows too, once they had
    served to choose its parameters."""

    def before_refit(self) -> Any:
        """The model that was fitted to the training rows alone, for predictions of the validation
        rows; it has the task's methods."""


class Task(Protocol):
    """Objective over its data, for the training loop; independent of the model's family."""

    def plan(self, epoch: int) -> Sequence[Any]:
        """Plan the epoch's batches, in order. The result depends on the seed and the epoch only."""

    def batch(self, planned: Any) -> Any:
        """Build a planned batch as tensors on the device."""

    def loss(self, model: Any, batch: Any, hidden_state: Any) -> tuple[Loss, Any]:
        """Summed training loss, and the `hidden_state` for the next batch of the epoch: None or a
        tuple of tensors, carried across windows (d2l section 9.7)."""

    def validate(self, model: Any) -> tuple[Loss, dict[str, float]]:
        """Summed validation loss in nats without label smoothing, which selects the best weights;
        and other metrics by name, such as accuracy, for display."""

    def describe(self, planned: Any) -> str:
        """Describe the rows of a planned batch, for messages."""


# One protocol for each kind of task: what tasks and predictions call


class LanguageModel(Protocol):
    """Next-token prediction over a stream, with a state that is carried across windows."""

    output: nn.Linear  # the last layer, which `project` applies

    def hidden(self, ids_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        """hidden_BTH after each id, and the state (None or a tuple of tensors) after the last."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, in new memory: the loss overwrites them."""


@runtime_checkable
class StreamScorer(Protocol):
    """Language model that computes the probabilities of a stream's own tokens directly, without
    those of all other tokens of the vocabulary. It needs no `hidden` and no `project`."""

    def log_probs(self, ids_T: Tensor) -> Tensor:
        """log P of each token of a stream but the first, given all before it: T - 1, float64."""


class Translator(Protocol):
    """p(target | source) with teacher forcing (d2l section 10.7.1)."""

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        """hidden_BTH after each id of target_BT, which begins with BOS; each predicts the next
        id."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, in new memory: the loss overwrites them."""


class BlankFiller(Protocol):
    """p(word | all other words of its row), for every word."""

    def hidden(self, ids_BT: Tensor, length_B: Tensor) -> Tensor:
        """hidden_BWH of the W = T - 2 words of rows from BOS to EOS, PAD beyond. A word's vector
        does not depend on its id."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, in new memory: the loss overwrites them."""


class Classifier(Protocol):
    """p(label | text)."""

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC, independent of padding and of the other texts of the batch."""


class PairClassifier(Protocol):
    """p(label | premise, hypothesis)."""

    def classify_pair(self, premise: Prompt, hypothesis: Prompt) -> Tensor:
        """logits_BC, independent of padding and of the other pairs of the batch. Each text ends in
        EOS."""


class ImageClassifier(Protocol):
    """p(label | picture). A picture of Y rows and X columns has the size that the model was built
    for."""

    image_size: tuple[int, int]  # Y and X

    def classify(self, image_BYX: Tensor) -> Tensor:
        """logits_BC of pictures with values from 0 (black) to 1, independent of the other pictures
        of the batch."""


class Forecaster(Protocol):
    """Mean of a number, given numbers before it."""

    lags: int  # of a row's inputs, the number that `forecast` reads: the last ones

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B, float32, from at least `lags` inputs per row, the latest last."""


class MaskedLanguageModel(Protocol):
    """p(masked word | words on both its sides), and next-sentence prediction."""

    def read(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        """hidden_BSH of BOS, a sentence, EOS, and optionally a second sentence (segment 1) and EOS.
        Ids may be MASK."""

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV of the word at each position, in new memory: the loss overwrites them."""

    def follows(self, hidden_BSH: Tensor) -> Tensor:
        """logits_B2: class 1 if the second sentence follows the first, 0 if it is a random one."""


class WordVectors(Protocol):
    """word2vec's two embedding tables of D columns: input and output vectors."""

    def input(self, ids: Tensor) -> Tensor:
        """Input vectors v of the ids, in one more dimension D."""

    def output(self, ids: Tensor) -> Tensor:
        """Output vectors v' of the ids, in one more dimension D."""


class GloveVectors(WordVectors, Protocol):
    """Word vectors with a bias for each word, in both tables."""

    def input_bias(self, ids: Tensor) -> Tensor:
        """Biases b of the ids, in one more dimension of size 1."""

    def output_bias(self, ids: Tensor) -> Tensor:
        """Biases b~ of the ids, in one more dimension of size 1."""


@runtime_checkable
class ComposedVectors(Protocol):
    """Word vectors that are not simply the weights of `input`."""

    def vectors(self) -> Tensor:
        """vectors_VD of all ids, the result of the training, without gradient."""


@runtime_checkable
class Spelled(Protocol):
    """Model that reads the letters of the words. Only these determine the sizes of the buffers that
    are empty before `read_words`."""

    def read_words(self, words: Sequence[str]) -> None:
        """Read the words of the input vocabulary, in order of their ids, before the training."""

    def spell(self, words: Sequence[str]) -> Tensor:
        """vectors_UD of any words, without gradient."""
