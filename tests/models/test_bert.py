"""BERT: its encoder against the `transformers` library's, what is masked and paired, and
fine-tuning from its weights."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from family_cases import BERT as BLOCK
from fitting import fit
from reference_modules import (
    assert_same_gradients,
    bert_config,
    bert_encoder,
    give,
    module,
    randomised,
    weighed,
)
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, MASK, PAD, UNK, Loss, Prompt, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tasks import masked_language_model as mlm
from pipeline.text.specials import SPECIALS
from pipeline.training import checkpoint

CPU = torch.device("cpu")
WORDS = 20
VOCABULARY = len(SPECIALS) + WORDS


def built(family: str = "bert", seed: int = 3, classes: int = VOCABULARY, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return checkpoint.build(
        family, BLOCK | changes, Sizes(VOCABULARY, classes, False), "model"
    ).eval()


def table(rows: list[list[int]], paragraph: list[int]) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": paragraph}, schema=tables.ENCODED_TEXT
    )


def story(paragraphs: int, sentences: int, longest: int = 10, seed: int = 1) -> pa.Table:
    """Random words in paragraphs of equally many sentences."""
    rng = np.random.default_rng(seed)
    count = paragraphs * sentences
    rows = [
        rng.integers(len(SPECIALS), VOCABULARY, rng.integers(1, longest + 1)).tolist()
        for _ in range(count)
    ]
    return table(rows, [i // sentences for i in range(count)])


def config(**changes: Any) -> mlm.Config:
    return mlm.Config(**({"batch_size": 16, "max_length": 24, "max_train_pairs": None} | changes))


def task_of(train_table: pa.Table, seed: int = 1, **changes: Any) -> mlm.Task:
    return mlm.Task(train_table, train_table, config(**changes), seed, CPU)


def text_of(*rows: list[int], width: int = 0) -> tuple[Prompt, Tensor]:
    width = max(width, *(len(row) for row in rows))
    ids_BS = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return Prompt(ids_BS, torch.tensor([len(row) for row in rows])), torch.zeros_like(ids_BS)


def random_in_float64(family: str = "bert", **changes: Any) -> Any:
    return randomised(built(family, **changes))


@pytest.mark.parametrize("implementation", ["fused", "equations"])
def test_the_model_is_that_of_the_transformers_library_in_value_and_gradient(
    implementation: str,
) -> None:
    import transformers as library

    theirs = library.BertForPreTraining(bert_config(VOCABULARY, BLOCK)).double().eval()
    # ours learns a vector for it, which nothing sees
    theirs.bert.embeddings.word_embeddings.padding_idx = None
    ours, heads = random_in_float64(implementation=implementation), theirs.cls
    pairs = [
        *bert_encoder(theirs, ours),
        *module(heads.predictions.transform.dense, ours.transform[0]),
        *module(heads.predictions.transform.LayerNorm, ours.transform[2]),
        *module(heads.seq_relationship, ours.next),
    ]
    give(pairs, theirs, ours, heads.predictions.bias, ours.bias)
    with torch.no_grad():
        heads.predictions.bias[:-1] = ours.bias
    batch = task_of(story(20, 4)).train.batch(
        task_of(story(20, 4)).train.draw(np.random.default_rng(0)),
        np.arange(4, VOCABULARY),
        np.random.default_rng(1),
    )
    ids_BS = batch.text.ids_BS
    real_BS = torch.arange(ids_BS.shape[1]) < batch.text.length_B[:, None]
    assert (ids_BS == MASK).any()
    assert not real_BS.all()
    said = theirs(
        input_ids=ids_BS.masked_fill(ids_BS == MASK, VOCABULARY),
        attention_mask=real_BS.long(),
        token_type_ids=batch.segment_BS,
        output_hidden_states=True,
    )
    hidden_BSH = ours.read(batch.text, batch.segment_BS)
    found = hidden_BSH[real_BS], ours.project(hidden_BSH[real_BS]), ours.follows(hidden_BSH)
    wanted = (
        said.hidden_states[-1][real_BS],
        said.prediction_logits[real_BS][:, :-1],
        said.seq_relationship_logits,
    )
    torch.testing.assert_close(found, wanted)
    weighed(*found).backward()
    weighed(*wanted).backward()
    assert_same_gradients(pairs)
    torch.testing.assert_close(ours.bias.grad, heads.predictions.bias.grad[:-1])


def test_fine_tuned_model_matches_transformers_value_and_gradient() -> None:
    import transformers as library

    theirs = library.BertForSequenceClassification(bert_config(VOCABULARY, BLOCK)).double().eval()
    theirs.bert.embeddings.word_embeddings.padding_idx = None
    ours = random_in_float64("bert_classifier", classes=3)
    pairs = [*bert_encoder(theirs, ours), *module(theirs.classifier, ours.output)]
    give(pairs, theirs, ours)
    text, _ = text_of([4, 5, 6, 7, EOS], [8, EOS], [9, 4, EOS], width=7)
    ids_BS = F.pad(text.ids_BS, (1, 0), value=BOS)  # which stands for <cls>
    real_BS = torch.arange(ids_BS.shape[1]) < text.length_B[:, None] + 1
    found, wanted = (
        ours.classify(text),
        theirs(input_ids=ids_BS, attention_mask=real_BS.long()).logits,
    )
    torch.testing.assert_close(found, wanted)
    weighed(found).backward()
    weighed(wanted).backward()
    assert_same_gradients(pairs)


def batches(task: mlm.Task, epoch: int) -> list[mlm.Batch]:
    return [task.batch(planned) for planned in task.plan(epoch)]


def unmasked(batch: mlm.Batch) -> Tensor:
    """The pairs as they stand in the text."""
    return torch.where(batch.label_BS == PAD, batch.text.ids_BS, batch.label_BS)


def test_masks_15_percent_of_words_in_ratio_80_10_10() -> None:
    found = batches(task_of(story(400, 5, longest=30), max_length=64), 0)
    words = sum(int((unmasked(batch) >= len(SPECIALS)).sum()) for batch in found)
    read, label = (
        torch.cat([part[batch.label_BS != PAD] for batch, part in zip(found, parts, strict=True)])
        for parts in ([b.text.ids_BS for b in found], [b.label_BS for b in found])
    )
    assert len(label) / words == pytest.approx(0.15, abs=0.004)
    assert label.min() >= len(SPECIALS)
    assert float((read == MASK).double().mean()) == pytest.approx(0.8, abs=0.015)
    # a random word is the true one in 1 of WORDS cases
    assert float((read == label).double().mean()) == pytest.approx(0.1 + 0.1 / WORDS, abs=0.012)
    random = read[(read != MASK) & (read != label)]
    assert len(random.unique()) == WORDS
    assert random.min() >= len(SPECIALS)


def test_every_pair_has_a_word_to_guess_and_special_ids_are_left_alone() -> None:
    for batch in batches(task_of(story(30, 3, longest=2)), 0):
        assert ((batch.label_BS != PAD).sum(1) >= 1).all()
        special = torch.isin(unmasked(batch), torch.tensor([PAD, BOS, EOS]))
        assert (batch.label_BS[special] == PAD).all()
        assert not torch.isin(batch.text.ids_BS[~special], torch.tensor([PAD, UNK, BOS, EOS])).any()


def test_masks_and_pairs_vary_by_epoch_and_depend_only_on_seed() -> None:
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        return [
            row
            for batch in batches(task_of(story(30, 4), seed), epoch)
            for row in batch.text.ids_BS.tolist()
        ]

    assert drawn(1, 0) == drawn(1, 0)
    assert sorted(drawn(1, 0)) != sorted(drawn(1, 1))
    assert sorted(drawn(1, 0)) != sorted(drawn(2, 0))
    masks = mlm.mask_words(np.full((50, 12), 7), np.arange(4, 9), np.random.default_rng(1))[1]
    assert len({tuple(row) for row in masks.tolist()}) > 20, (
        "rows of one batch are masked independently"
    )


def test_half_of_second_sentences_follow_and_half_are_unrelated() -> None:
    data = story(300, 5)
    paragraph = data["paragraph"].to_numpy()
    chosen = task_of(data).train.draw(np.random.default_rng(2))
    assert len(chosen.first_P) == 300 * 4
    assert (paragraph[chosen.first_P] == paragraph[chosen.first_P + 1]).all()
    assert (chosen.second_P[chosen.follows_P] == chosen.first_P[chosen.follows_P] + 1).all()
    other = ~chosen.follows_P
    assert (paragraph[chosen.second_P[other]] != paragraph[chosen.first_P[other]]).all()
    assert chosen.follows_P.mean() == pytest.approx(0.5, abs=0.05)
    assert (paragraph[chosen.second_P] == paragraph[chosen.second_P - 1]).all(), (
        "an opening would give itself away"
    )
    assert len(np.unique(paragraph[chosen.second_P[other]])) > 200


def test_a_pair_is_read_as_cls_first_sep_second_sep_and_the_longer_sentence_is_cut() -> None:
    rows = [[4, 5, 6, 7, 8, 9], [10, 11], [12] * 3, [13, 14, 15, 16, 17, 18]]
    pairs = mlm.Pairs(table([*rows[:2], *rows[2:], [4], [5]], [0, 0, 1, 1, 2, 2]), 9, CPU)
    chosen = mlm.SentencePairs(np.array([0, 2]), np.array([1, 3]), np.array([True, True]))
    ids, segment = pairs.concatenate(chosen)
    assert ids.tolist() == [
        [BOS, 4, 5, 6, 7, EOS, 10, 11, EOS],
        [BOS, 12, 12, 12, EOS, 13, 14, 15, EOS],
    ]
    assert segment.tolist() == [[0] * 6 + [1] * 3, [0] * 5 + [1] * 4]


def test_batches_hold_every_pair_once() -> None:
    data = story(40, 4)
    first = [int(row) for planned in task_of(data).plan(0) for row in planned.pairs.first_P]
    assert sorted(first) == [row for row in range(160) if row % 4 != 3]
    assert (
        sum(len(planned.pairs.first_P) for planned in task_of(data, max_train_pairs=37).plan(3))
        == 37
    )


@torch.inference_mode()
def test_segments_and_the_order_of_words_matter() -> None:
    model, (text, segment_BS) = built(), text_of([BOS, 5, 6, EOS, 7, EOS])
    second_BS = torch.tensor([[0, 0, 0, 0, 1, 1]])
    assert not torch.allclose(model.read(text, segment_BS), model.read(text, second_BS))
    swapped, _ = text_of([BOS, 6, 5, EOS, 7, EOS])
    assert not torch.allclose(
        model.read(text, segment_BS)[0, 0], model.read(swapped, segment_BS)[0, 0]
    )


def test_the_loss_is_the_mean_of_the_words_plus_the_mean_of_the_pairs() -> None:
    task, model = task_of(story(30, 4)), built()
    batch = batches(task, 0)[0]
    loss, _ = task.loss(model, batch, None)
    logits_BSV = model.project(model.read(batch.text, batch.segment_BS))
    words = F.cross_entropy(logits_BSV.flatten(0, 1), batch.label_BS.flatten(), ignore_index=PAD)
    pairs = F.cross_entropy(
        model.follows(model.read(batch.text, batch.segment_BS)), batch.follows_B
    )
    torch.testing.assert_close(loss.total / loss.tokens, words + pairs)


def test_scores_are_the_validation_figures_and_depend_on_the_table_alone() -> None:
    data, model = story(40, 4), built()
    one, other = task_of(data, seed=1), task_of(data, seed=2)
    valid, figures = one.validate(model)
    assert float(valid.total) / valid.tokens == pytest.approx(
        figures["mlm_loss"] + figures["nsp_loss"]
    )
    assert figures == other.validate(model)[1]
    scored = mlm.score(model, data, config(), CPU)
    assert valid.tokens == scored["count"].sum()
    assert figures["perplexity"] == pytest.approx(
        np.exp(scored["nats"].sum() / scored["count"].sum())
    )
    assert scored["row"].tolist() == [row for row in range(160) if row % 4 != 3]


def test_masks_are_equal_if_and_only_if_the_same_words_were_read_and_masked() -> None:
    """Another maximum length cuts pairs and draws other masks, even for pairs that fit; another
    vocabulary has other words. The weights change nothing."""
    data = story(40, 4)
    masks = mlm.score(built(), data, config(), CPU)["masks"]
    assert len(set(masks)) > 0.99 * len(masks)
    for model, settings in ((built(seed=4), config()), (built(), config(max_length=32))):
        assert (mlm.score(model, data, settings, CPU)["masks"] == masks).all()

    cut = mlm.score(built(), data, config(max_length=12), CPU)
    uncut = mlm.score(built(), data, config(), CPU)
    as_many = cut["count"] == uncut["count"]
    assert as_many.any()
    assert (cut["masks"] != masks)[as_many].mean() > 0.5

    renamed = [
        [VOCABULARY + len(SPECIALS) - 1 - word for word in row] for row in data["ids"].to_pylist()
    ]
    other = mlm.score(built(), table(renamed, data["paragraph"].to_pylist()), config(), CPU)
    assert (other["count"] == uncut["count"]).all()
    assert (other["masks"] != masks).all()


def cloze(paragraphs: int, seed: int) -> pa.Table:
    """A paragraph keeps to one of two sets of words, and a sentence repeats one word: so both tasks
    can be learnt."""
    rng = np.random.default_rng(seed)
    rows, number = [], []
    for paragraph in range(paragraphs):
        words = np.arange(len(SPECIALS), VOCABULARY).reshape(2, -1)[rng.integers(2)]
        for _ in range(4):
            rows.append([int(rng.choice(words))] * int(rng.integers(3, 7)))
            number.append(paragraph)
    return table(rows, number)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that knows the cloze, and its history."""
    work = tmp_path_factory.mktemp("pretrained")
    task = mlm.Task(cloze(1000, 1), cloze(60, 2), config(batch_size=32), 1, CPU)
    model = built()
    return model, fit(model, task, 0.005, 5, work)


def test_it_learns_a_cloze_and_which_sentence_follows(pretrained: Any) -> None:
    model, done = pretrained
    found = mlm.score(model, cloze(60, 3), config(), CPU)
    assert found["correct"].sum() / found["count"].sum() > 0.9
    assert found["pair_correct"].mean() > 0.65, (
        "3 in 4 is all that can be known: half of the others have the same words"
    )
    names = {name for _, _, name, _ in done.history}
    assert {
        "valid/mlm_loss",
        "valid/mlm_accuracy",
        "valid/nsp_loss",
        "valid/nsp_accuracy",
        "valid/perplexity",
    } <= names


def test_masked_words_do_not_leak_into_the_input() -> None:
    """Words that nothing foretells are guessed right only where they were left in place: 1 in 10,
    or by chance."""
    rng = np.random.default_rng(0)
    ids = rng.integers(len(SPECIALS), VOCABULARY, (4000, 20))
    read, label = mlm.mask_words(ids, np.arange(len(SPECIALS), VOCABULARY), rng)
    chosen = label != PAD
    assert (read[chosen] == label[chosen]).mean() < 0.125
    assert (read[~chosen] == ids[~chosen]).all()


class Sentiment:
    """A classification in small: class 1 where the first word is of the upper half."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(count)
        self.rows = [
            rng.integers(len(SPECIALS), VOCABULARY, rng.integers(2, 8)).tolist()
            for _ in range(count)
        ]

    def plan(self, epoch: int) -> list[list[list[int]]]:
        return [self.rows[i : i + 16] for i in range(0, len(self.rows), 16)]

    def batch(self, planned: list[list[int]]) -> tuple[Prompt, Tensor]:
        label_B = torch.tensor([int(row[0] >= len(SPECIALS) + WORDS // 2) for row in planned])
        return text_of(*([*row, EOS] for row in planned))[0], label_B

    def loss(self, model: Any, batch: tuple[Prompt, Tensor], carry: None) -> tuple[Loss, None]:
        return Loss(
            F.cross_entropy(model.classify(batch[0]), batch[1], reduction="sum"), len(batch[1])
        ), None

    @torch.inference_mode()
    def validate(self, model: Any) -> tuple[Loss, dict[str, float]]:
        return self.loss(model, self.batch(self.rows), None)[0], {}

    def describe(self, planned: Any) -> str:
        return "rows"


def test_fine_tuning_begins_with_the_trained_encoder_and_learns(
    pretrained: Any, tmp_path: Path
) -> None:
    model = built("bert_classifier", 9, classes=2)
    model.load_pretrained(pretrained[0].state_dict())
    fit(model, Sentiment(200), 0.003, 8, tmp_path / "work")
    text, label_B = Sentiment(120).batch(Sentiment(120).rows)
    assert float((model.classify(text).argmax(1) == label_B).double().mean()) > 0.9


def test_a_corpus_without_paragraphs_is_refused() -> None:
    with pytest.raises(UserError, match=r"^corpus: got no two paragraphs of two sentences"):
        task_of(table([[5], [6], [7]], [0, 0, 0]))
    with pytest.raises(UserError, match=r"^corpus: got no two paragraphs of two sentences"):
        task_of(table([[5], [6], [7]], [0, 1, 2]))


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"max_length": 4}, {"max_train_pairs": 0}])
def test_an_objective_that_cannot_be_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        dataclasses.replace(config(), **change)
