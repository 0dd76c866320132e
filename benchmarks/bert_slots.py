"""BERT's loss of the masked words by the book's definition (d2l section 15.10), next to the mean
over the masked words.

    seqline use wikitext2 && dvc repro train@bert_50_steps-1 && python -m
    benchmarks.bert_slots [bert_50_steps-1]

The book trains on a mean over slots, and prints the mean of it over the steps. Every pair has slots
for 15 % of `max_length`. A pair with fewer masked words has empty slots: there <cls> must predict
the vocabulary's entry 0, here the padding, which is always the same.

So the run is trained twice more: once on the book's loss, and once unchanged, since a run's history
has the sum of the words' and the pairs' loss only. The latter's weights are compared with the
run's. Prints a table in Markdown."""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, PAD, Loss, MaskedLanguageModel, Sizes
from pipeline.core import config, params, tables
from pipeline.core.errors import exit_with, refuse
from pipeline.core.seeding import derive
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.tasks import masked_language_model as mlm
from pipeline.text.token_budget import Ragged
from pipeline.training import checkpoint, devices, loop, optim

BOOK_LOSS = 5.885  # as printed in the book, nats per slot


class RecordingTask(mlm.Task):
    """The task, with a record of every batch: nats of its masked words, their number, nats of its
    empty slots, and its pairs.

    With `slots` per pair, the loss of the words is the mean over slots, empty ones included; with
    0, over the words."""

    def __init__(self, *args: Any, slots: int = 0) -> None:
        super().__init__(*args)
        self.slots = slots
        self.records: list[tuple[float, int, float, int]] = []

    def loss(self, model: MaskedLanguageModel, batch: mlm.Batch, carry: None) -> tuple[Loss, None]:
        hidden_BSH = model.read(batch.text, batch.segment_BS)
        masked_BS = batch.label_BS != PAD
        label_N = batch.label_BS[masked_BS]
        words = summed_cross_entropy(model.project(hidden_BSH[masked_BS]), label_N)

        # Empty slots: <cls> predicts the padding.
        empty_B = (self.slots - masked_BS.sum(1)).clamp(min=0)
        padding_B = torch.full_like(empty_B, PAD)
        empty = (
            F.cross_entropy(model.project(hidden_BSH[:, 0]).float(), padding_B, reduction="none")
            * empty_B
        ).sum()

        count = len(label_N) + int(empty_B.sum())
        self.records.append(
            (float(words.detach()), len(label_N), float(empty.detach()), len(empty_B))
        )
        pairs = F.cross_entropy(model.follows(hidden_BSH).float(), batch.follows_B)
        return Loss((words + empty if self.slots else words) + count * pairs, count), None


def train_model(run: params.Run, where: str, task: RecordingTask, sizes: Sizes) -> torch.nn.Module:
    """Train the run's model as the train stage does."""
    loop_config = config.load(loop.Config, run.training, f"{where}.training")
    devices.prepare(loop_config.threads)
    torch.manual_seed(derive(run.seed, "init"))
    model = checkpoint.build(run.family, run.model, sizes, f"{where}.model")
    rates = optim.load(run.optim, f"{where}.optim")
    seed = derive(run.seed, "dropout")
    with TemporaryDirectory() as work:
        training = loop.Loop(
            model, task, rates, loop_config, seed=seed, work=Path(work), log=lambda *_: None
        )
        training.run(lambda *_: None)
    return model.eval()


def book_masked_words(task: RecordingTask, epochs: int) -> float:
    """Number of words of a pair that the book would mask, the mean over the pairs.

    It masks 15 % of a pair's tokens, <cls> and <sep> among them, but at least one. It leaves out
    pairs longer than `max_length`, which are cut here."""
    length = task.train.ids.length
    batches = [planned.pairs for epoch in range(epochs) for planned in task.plan(epoch)]
    tokens = np.concatenate(
        [length[pairs.first_P] + length[pairs.second_P] + 3 for pairs in batches]
    )
    return float(
        np.maximum(1, np.rint(mlm.CHOSEN * tokens[tokens <= task.config.max_length])).mean()
    )


def entropy(ids: NDArray[np.int32]) -> float:
    """Entropy of the words by frequency, in nats: the loss of a unigram model."""
    count = np.bincount(ids[~np.isin(ids, (PAD, BOS, EOS))])
    share = count[count > 0] / count.sum()
    return float(-(share * np.log(share)).sum())


def has_weights(model: torch.nn.Module, folder: Path) -> bool:
    """Return whether the model has the weights of the run in the folder, bit for bit."""
    saved, _ = checkpoint.load(folder / "model.safetensors")
    tensors = checkpoint.unique_tensors(model)
    return tensors.keys() == saved.keys() and all(
        torch.equal(tensors[name], saved[name]) for name in tensors
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="bert_50_steps-1")
    parser.add_argument("--root", type=Path, default=Path("."))
    a = parser.parse_args()

    run = params.run(a.root / "params.yaml", a.run)
    where = f"settings.{run.setting}"
    cpu = torch.device("cpu")
    if run.task != "masked_language_model" or run.init_from != params.SCRATCH:
        raise refuse(
            f"runs.{a.run}",
            f"{run.task} from {run.init_from}",
            "a masked language model from scratch",
        )
    encoded = a.root / "data/encoded" / run.corpus
    folder = a.root / "data/models" / a.run
    train, valid, test = (
        tables.read(encoded / f"{name}.parquet", mlm.SCHEMA) for name in ("train", "valid", "test")
    )
    objective = config.load(mlm.Config, run.objective, f"{where}.objective")
    sizes = Sizes(**json.loads((folder / "config.json").read_text())["sizes"])

    slots = round(mlm.CHOSEN * objective.max_length)
    task, book_task = (
        RecordingTask(train, valid, objective, derive(run.seed, "data"), cpu, slots=n)
        for n in (0, slots)
    )
    model: Any = train_model(run, where, task, sizes)
    train_model(run, where, book_task, sizes)
    nats, words, _, pairs = np.array(task.records).T
    book_nats, book_words, empty_nats, _ = np.array(book_task.records).T

    scores = mlm.score(model, test, objective, cpu)
    held_out_nats = scores["nats"].sum()
    masked = scores["count"].sum()
    masked_by_book = book_masked_words(task, int(run.training["max_epochs"]))
    print(
        f"The weights are {'those' if has_weights(model, folder) else 'NOT those'} of {folder}, "
        f"after {len(nats)} steps.\n"
    )
    print(f"| | per masked word | per slot, of {slots} a pair |\n|---|---:|---:|")
    print(f"| the book, mean over its 50 steps | – | {BOOK_LOSS} |")
    print(
        f"| trained on the book's loss, mean over {len(nats)} steps | "
        f"{(book_nats / book_words).mean():.2f} | "
        f"{((book_nats + empty_nats) / pairs / slots).mean():.2f} |"
    )
    print(f"| the run, mean over {len(nats)} steps | {(nats / words).mean():.2f} | – |")
    print(f"| the run, held-out test text | {held_out_nats / masked:.2f} | – |\n")
    print(
        f"Masked words a pair: {words.sum() / pairs.sum():.2f}; by the book's rule "
        f"{masked_by_book:.2f}, which makes its loss "
        f"{BOOK_LOSS * slots / masked_by_book:.2f} a word if empty slots cost nothing."
    )
    print(
        "Entropy of the training text's words by frequency: "
        f"{entropy(Ragged(train['ids']).values):.2f}."
    )
    print(
        f"Of the test's masked words {scores['correct'].sum() / masked:.1%} are guessed; which "
        f"sentence follows costs {scores['pair_nats'].mean():.3f} (chance {np.log(2):.3f})."
    )


if __name__ == "__main__":
    exit_with(main)
