"""BERT's loss of the masked words as the book counts it (d2l section 15.10), beside the mean over
the masked words.

    seqline use wikitext2 && dvc repro train@bert_50_steps && python -m benchmarks.bert_slots
    [bert_50_steps]

The book prints the mean over the steps of what is itself a mean over slots, and trains on that:
every pair has 15 % of `max_length` of them, and where it has fewer masked words, each slot left
asks <cls> for the vocabulary's entry 0, here the padding. That answer is always the same. So the
run is trained twice more: as it was, to the same weights, which is checked, since a run's history
has the words' and the pairs' loss in one sum; and on the book's loss. Prints a table in Markdown.
"""

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
from pipeline.ragged import Ragged
from pipeline.tasks import masked_language_model as mlm
from pipeline.training import checkpoint, devices, loop, optim

BOOK_LOSS = 5.885  # what the book prints, nats a slot


class RecordingTask(mlm.Task):
    """The task, with a note of every batch: nats of its masked words, their number, nats of its
    empty slots, and its pairs.

    With `slots` to a pair, the loss of the words is the mean over them, empty ones among them; with
    none, over the words."""

    def __init__(self, *given: Any, slots: int = 0) -> None:
        super().__init__(*given)
        self.slots, self.noted = slots, list[tuple[float, int, float, int]]()

    def loss(self, model: MaskedLanguageModel, batch: mlm.Batch, carry: None) -> tuple[Loss, None]:
        hidden_BSH = model.read(batch.text, batch.segment_BS)
        chosen_BS = batch.label_BS != PAD
        label_N = batch.label_BS[chosen_BS]
        words = summed_cross_entropy(model.project(hidden_BSH[chosen_BS]), label_N)
        empty_B = (self.slots - chosen_BS.sum(1)).clamp(min=0)
        padding_B = torch.full_like(empty_B, PAD)
        empty = (
            F.cross_entropy(model.project(hidden_BSH[:, 0]).float(), padding_B, reduction="none")
            * empty_B
        ).sum()
        count = len(label_N) + int(empty_B.sum())
        self.noted.append(
            (float(words.detach()), len(label_N), float(empty.detach()), len(empty_B))
        )
        pairs = F.cross_entropy(model.follows(hidden_BSH).float(), batch.follows_B)
        return Loss((words + empty if self.slots else words) + count * pairs, count), None


def train_model(run: params.Run, where: str, task: RecordingTask, sizes: Sizes) -> torch.nn.Module:
    """The run's model, trained as the train stage does."""
    loop_config = config.load(loop.Config, run.training, f"{where}.training")
    devices.prepare(loop_config.threads)
    torch.manual_seed(derive(run.seed, "init"))
    model = checkpoint.build(run.family, run.model, sizes, f"{where}.model")
    rates, seed = optim.load(run.optim, f"{where}.optim"), derive(run.seed, "dropout")
    with TemporaryDirectory() as work:
        trained = loop.Loop(
            model, task, rates, loop_config, seed=seed, work=Path(work), log=lambda *_: None
        )
        trained.run(lambda *_: None)
    return model.eval()


def book_masked_words(task: RecordingTask, epochs: int) -> float:
    """How many words of a pair the book would mask: 15 % of its tokens, <cls> and <sep> among them,
    but at least one. Longer pairs than `max_length`, which are cut here, it leaves out."""
    length = task.train.ids.length
    chosen = [planned.chosen for epoch in range(epochs) for planned in task.plan(epoch)]
    tokens = np.concatenate(
        [length[pairs.first_P] + length[pairs.second_P] + 3 for pairs in chosen]
    )
    return float(
        np.maximum(1, np.rint(mlm.CHOSEN * tokens[tokens <= task.config.max_length])).mean()
    )


def entropy(ids: NDArray[np.int32]) -> float:
    """Of the words by their frequency, in nats: the loss of who knows nothing else."""
    count = np.bincount(ids[~np.isin(ids, (PAD, BOS, EOS))])
    share = count[count > 0] / count.sum()
    return float(-(share * np.log(share)).sum())


def has_weights(model: torch.nn.Module, folder: Path) -> bool:
    """Whether the model has the weights of the run in the folder, to the bit."""
    kept, _ = checkpoint.load(folder / "model.safetensors")
    own = checkpoint.unique_tensors(model)
    return own.keys() == kept.keys() and all(torch.equal(own[name], kept[name]) for name in own)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="bert_50_steps")
    parser.add_argument("--root", type=Path, default=Path("."))
    a = parser.parse_args()
    run, where, cpu = (
        params.run(a.root / "params.yaml", a.run),
        f"runs.{a.run}",
        torch.device("cpu"),
    )
    if run.task != "masked_language_model" or run.start != params.SCRATCH:
        raise refuse(where, f"{run.task} from {run.start}", "a masked language model from scratch")
    encoded, folder = a.root / "data/encoded" / run.corpus, a.root / "data/models" / a.run
    train, valid, test = (
        tables.read(encoded / f"{name}.parquet", mlm.SCHEMA) for name in ("train", "valid", "test")
    )
    objective = config.load(mlm.Config, run.objective, f"{where}.objective")
    sizes = Sizes(**json.loads((folder / "config.json").read_text())["sizes"])
    slots = round(mlm.CHOSEN * objective.max_length)
    task, asked = (
        RecordingTask(train, valid, objective, derive(run.seed, "data"), cpu, slots=n)
        for n in (0, slots)
    )
    model: Any = train(run, where, task, sizes)
    train(run, where, asked, sizes)
    nats, words, _, pairs = np.array(task.noted).T
    asked_nats, asked_words, empty_nats, _ = np.array(asked.noted).T
    scored = mlm.score(model, test, objective, cpu)
    held_out, chosen = scored["nats"].sum(), scored["count"].sum()
    book = book_masked_words(task, int(run.training["max_epochs"]))
    print(
        f"The weights are {'those' if has_weights(model, folder) else 'NOT those'} of {folder}, after "
        f"{len(nats)} steps.\n"
    )
    print(f"| | per masked word | per slot, of {slots} a pair |\n|---|---:|---:|")
    print(f"| the book, mean over its 50 steps | – | {BOOK_LOSS} |")
    print(
        (
            f"| trained on the book's loss, mean over {len(nats)} steps | "
            f"{(asked_nats / asked_words).mean():.2f} | "
        ),
        end="",
    )
    print(f"{((asked_nats + empty_nats) / pairs / slots).mean():.2f} |")
    print(f"| the run, mean over {len(nats)} steps | {(nats / words).mean():.2f} | – |")
    print(f"| the run, held-out test text | {held_out / chosen:.2f} | – |\n")
    print(
        (
            f"Masked words a pair: {words.sum() / pairs.sum():.2f}; by the book's rule {book:.2f}, "
            "which makes its loss "
        ),
        end="",
    )
    print(f"{BOOK_LOSS * slots / book:.2f} a word if empty slots cost nothing.")
    print(
        "Entropy of the training text's words by frequency: "
        f"{entropy(Ragged(train['ids']).values):.2f}."
    )
    print(
        f"Of the test's masked words {scored['correct'].sum() / chosen:.1%} are guessed; ", end=""
    )
    print(
        f"which sentence follows costs {scored['pair_nats'].mean():.3f} (chance {np.log(2):.3f})."
    )


if __name__ == "__main__":
    exit_with(main)
