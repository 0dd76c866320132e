"""Trained runs that answer texts from users: for serving and the command line.

The module `pipeline.predictions.<task>` answers; here its function is found, and what users send is
checked."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipeline.contracts import UNK, Attentive
from pipeline.core import config
from pipeline.core.errors import refuse
from pipeline.core.request_text import checked_text
from pipeline.inference import (
    AttentionWeights,
    Prediction,
    Session,
    check_time,
    load_run,
)
from pipeline.predictions import Filler, Predictor, Row, TrainedRun
from pipeline.text.blanks import BLANK
from pipeline.text.encode import SPACE, Codec, describe
from pipeline.text.input_codec import input_codec

if TYPE_CHECKING:
    from pipeline.predictions.word_vectors import Words


def load_predictor(task: str, run: TrainedRun) -> Predictor:
    """Load a run for serving; UserError for an unknown task, or a vocabulary other than the
    model's. Rows of a task that reads text have `unknown_words` too."""
    module = config.named_module("pipeline.predictions", task, "task")
    predictor: Predictor = module.load_predictor(run)
    codec = vocabulary(task, run.vocab)

    def predict(texts: Sequence[Any], settings: Mapping[str, Any]) -> list[Row]:
        checked = checked_texts(texts)
        rows = predictor(checked, checked_settings(task, settings))
        if codec is None:
            return rows
        # Several rows of one text have its number.
        unknown = unknown_words(codec, checked)
        return [
            row | {"unknown_words": unknown[row.get("row", number)]}
            for number, row in enumerate(rows)
        ]

    return predict


def vocabulary(task: str, vocab: Path) -> Codec | None:
    """The codec of the inputs of a task; None for inputs that are no text."""
    side = config.named_module("pipeline.tasks", task, "task").SOURCE_TARGET[0]
    return input_codec(vocab, side) if side in describe(vocab).sides else None


def unknown_words(codec: Codec | None, texts: Sequence[str]) -> list[list[str]]:
    """The words of each text that the vocabulary lacks (at the level char, the characters), each
    once; bpe lacks none, and so do inputs that are no text (no `codec`)."""
    if codec is None:
        return [[] for _ in texts]
    plain = [text.replace(BLANK, " ") for text in texts]
    ids = codec.encode(pa.array(plain, pa.string())).to_pylist()
    return [
        list(dict.fromkeys(codec.unknown(text))) if UNK in row else []
        for text, row in zip(plain, ids, strict=True)
    ]


def open_session(run: TrainedRun) -> Session:
    """Open a run with its search; UserError for a run without one."""
    return Session.open(run.model, run.vocab, run.search, run.device)


def open_classifier(
    run: TrainedRun, pairs: bool = False
) -> Callable[[Sequence[str]], list[Prediction]]:
    """Open a run as a function from the texts of a command to their labels; UserError for another
    task, and for `pairs` of texts if the task has single ones."""
    classify: Callable[[Sequence[str]], list[Prediction]] = _open(
        run, "open_classifier", "a classifier"
    )
    task = load_run(run.model, run.search).task
    if pairs and config.named_module("pipeline.tasks", task, "task").KIND != "labelled_pair":
        raise refuse("HYPOTHESIS", "a second text", f"one text for the task {task}", "Remove it.")
    return classify


def open_ranking(run: TrainedRun) -> Callable[[Sequence[str]], list[list[Prediction]]]:
    """Open a run as a function from texts to all their labels, the most likely first; UserError for
    another task."""
    rank: Callable[[Sequence[str]], list[list[Prediction]]] = _open(
        run, "open_ranking", "a classifier of texts"
    )
    return rank


def open_filler(run: TrainedRun) -> Filler:
    """Open a run that fills the blanks of texts; UserError for another task."""
    filler: Filler = _open(run, "open_filler", "a model that fills blanks")
    return filler


def open_vectors(run: TrainedRun) -> "Words":
    """Open a run to look up words near others; UserError for another task."""
    words: Words = _open(run, "open_vectors", "word vectors")
    return words


def _open(run: TrainedRun, function: str, kind: str) -> Any:
    """Call the function of the run's task with the run; UserError if it has none."""
    task = load_run(run.model, run.search).task
    module = config.named_module("pipeline.predictions", task, "task")
    if not hasattr(module, function):
        raise refuse("run", f"a model of the task {task}", kind, "Name another run.")
    return getattr(module, function)(run)


@dataclass(frozen=True, slots=True)
class Explanation:
    """An output of a search, token by token: `tokens` with the probability of each, given the text
    and the tokens before it. `prompt`: the tokens that a language model continues."""

    text: str
    prompt: list[str]
    tokens: list[str]
    probabilities: list[float]
    attention: AttentionWeights | None


def explain(session: Session, text: str, seed: int | None = None) -> Explanation:
    """The best output for a text, with the probabilities of its tokens, and the attention weights
    if the model has any. UserError for a text without tokens. `seed` changes the output of a search
    that samples."""
    [ids] = session.source_codec.encode(pa.array([text], pa.string())).to_pylist()
    if not ids:
        raise refuse("text", "a text without tokens", "a text with words")
    check_time()
    prompt = session.prompt([text])
    [[best, *_]] = session.run_search(prompt, session.generator(seed))

    check_time()
    model: Any = session.model
    probabilities = []
    with torch.inference_mode():
        state, last_B = model.begin(prompt)
        for token in best.ids:
            log_probs_BV, state = model.step(state, last_B)
            probabilities.append(float(log_probs_BV[0, token].exp()))
            last_B = torch.full_like(last_B, token)

    attention = None
    if isinstance(session.model, Attentive) and best.ids:
        [weights] = session.attention_weights(prompt, [best])
        attention = session.name_unknown(weights, text)
    continues = session.continues_prompt
    return Explanation(
        session.decode_hypotheses([best])[0].text,
        _pieces(session.source_codec, ids) if continues else [],
        _pieces(session.target_codec, best.ids),
        probabilities,
        attention,
    )


def _pieces(codec: Codec, ids: Sequence[int]) -> list[str]:
    """The tokens as pieces of a text, with the spaces between them."""
    tokens = [token.replace(SPACE, " ") for token in codec.tokens(ids)]
    return [f" {token}" for token in tokens] if codec.level == "word" else tokens


def checked_texts(texts: Sequence[Any]) -> list[str]:
    """Return the texts of a request; UserError, with its index, for the first that is not a
    text."""
    return [checked_text(text, f"inputs[{number}]") for number, text in enumerate(texts)]


def checked_settings(task: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the `params` of a request; UserError for an unknown name, or a value that is not a
    whole number in its range."""
    check_names(task, settings)
    ranges = _ranges(task)
    for name, value in settings.items():
        least, largest = ranges[name]
        # JSON's true is an int in Python. NumPy's integers are Integral too.
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_integer or not least <= value <= largest:
            shown = str(value) if is_integer else repr(value)
            raise refuse(name, shown[:60], f"a whole number from {least} to {largest}")
    return {str(name): int(value) for name, value in settings.items()}


def check_names(task: str, settings: Mapping[str, Any]) -> None:
    """Raise UserError for a name in the `params` of a request that the task does not have."""
    names = list(_ranges(task))
    for name in settings:
        if name not in names:
            expected = "one of " + ", ".join(names) if names else f"no params: {task} has none"
            todo = config.nearest(name, names) or "Remove it."
            raise refuse("params", f"the unknown name {str(name)[:60]!r}", expected, todo)


def _ranges(task: str) -> dict[str, tuple[int, int]]:
    ranges: dict[str, tuple[int, int]] = config.named_module(
        "pipeline.predictions", task, "task"
    ).PARAMS
    return ranges
