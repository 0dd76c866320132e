"""Classifiers of pairs of texts: formulas written out as oracles, in value and gradient, padding,
what order means to whom, cutting, learning."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fitting import fit
from hypothesis import given
from hypothesis import strategies as st
from reference_modules import (
    assert_same_gradients,
    bert_config,
    bert_encoder,
    give,
    module,
    randomised,
    weighed,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor, nn

from pipeline.conformance.rows import prompt_of as prompt
from pipeline.contracts import BOS, EOS, PAD, Fitted, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.models import bert_pair_classifier
from pipeline.models.overlap_classifier import overlap
from pipeline.tasks import pair_classification as pairs
from pipeline.training import checkpoint, init_from

CPU = torch.device("cpu")
SIZES = Sizes(14, 3, False)
BERT = {
    "width": 16, "heads": 2, "feed_forward": 32, "layers": 1, "dropout": 0.0,
    "learned_positions": 40, "implementation": "fused",
}  # fmt: skip
BAYES = {"texts": "both", "ngrams": 1, "counts": "all", "alpha": 0.5, "calibrate": False}
FAMILIES: dict[str, dict[str, Any]] = {
    "decomposable_attention": {"embedding": 16, "hidden": 24, "dropout": 0.0},
    "bert_pair_classifier": BERT,
    "pair_naive_bayes": BAYES,
    "overlap_classifier": {"C": 1.0},
}
TRAINED = ("decomposable_attention", "bert_pair_classifier")


def built(family: str, **changes: Any) -> Any:
    torch.manual_seed(3)
    model: Any = checkpoint.build(
        family, FAMILIES[family] | changes, SIZES, "settings.test.model"
    ).eval()
    if isinstance(model, Fitted):
        model.fit(related(80, 1), related(40, 2), 1)
    return model


def table(premises: list[list[int]], hypotheses: list[list[int]], labels: list[int]) -> pa.Table:
    return pa.table(
        {
            "row": range(len(labels)),
            "premise": premises,
            "hypothesis": hypotheses,
            "label": labels,
        },
        schema=tables.ENCODED_LABELLED_PAIR,
    )


def related(count: int, seed: int) -> pa.Table:
    """Premises of words 4 to 8 and a hypothesis: all its words in the premise (0), none (1), or its
    only other one is 13 (2)."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(count) % 3
    premises, hypotheses = [], []
    for label in label_N:
        words = rng.permutation(np.arange(4, 12))
        premises.append(words[:4].tolist())
        hypotheses.append((words[1:3] if label != 1 else words[4:6]).tolist())
        if label == 2:
            hypotheses[-1][rng.integers(0, 2)] = 13
    return table(premises, hypotheses, label_N.tolist())


def config(**changes: Any) -> pairs.Config:
    values = {"batch_tokens": 300, "label_smoothing": 0.0, "balance": "none", "max_length": None}
    return pairs.Config(**(values | changes))


def test_decomposable_attention_is_its_formulas_word_by_word() -> None:
    """Equations 1 to 6 of Parikh et al. 2016, by loops over words and over pairs of words."""
    model = randomised(built("decomposable_attention"))
    premises = [[5, 6, 7, 8, EOS], [9, EOS], [4, 4, 5, EOS]]
    hypotheses = [[5, EOS], [10, 11, 12, EOS], [6, 5, EOS]]

    def network(layers: nn.Sequential, x: Tensor) -> Tensor:
        for layer in layers:
            if isinstance(layer, nn.Linear):
                x = (layer.weight @ x + layer.bias).clamp(min=0)
        return x

    expected = []
    for premise, hypothesis in zip(premises, hypotheses, strict=True):
        a = [model.embedding.weight[number] for number in premise]
        b = [model.embedding.weight[number] for number in hypothesis]
        e = [
            [network(model.attend, x) @ network(model.attend, y) for y in b] for x in a
        ]  # equation 1
        beta, alpha = [], []  # equation 2
        for i in range(len(a)):
            total = sum(torch.exp(e[i][k]) for k in range(len(b)))
            beta.append(sum(torch.exp(e[i][j]) / total * b[j] for j in range(len(b))))
        for j in range(len(b)):
            total = sum(torch.exp(e[k][j]) for k in range(len(a)))
            alpha.append(sum(torch.exp(e[i][j]) / total * a[i] for i in range(len(a))))
        v_1 = sum(network(model.compare, torch.cat(pair)) for pair in zip(a, beta, strict=True))
        v_2 = sum(network(model.compare, torch.cat(pair)) for pair in zip(b, alpha, strict=True))
        y = network(model.aggregate, torch.cat([v_1, v_2]))  # equations 3 to 5
        expected.append(model.output.weight @ y + model.output.bias)
    logits_BC = model.classify_pair(prompt(*premises), prompt(*hypotheses))
    assert_same(model, logits_BC, torch.stack(expected))


def assert_same(model: nn.Module, logits_BC: Tensor, expected_BC: Tensor) -> None:
    """In value and in the gradient of every weight."""
    torch.testing.assert_close(logits_BC, expected_BC, rtol=1e-8, atol=1e-8)
    parameters = list(model.parameters())
    gradients, expected = (
        torch.autograd.grad(weighed(output), parameters) for output in (logits_BC, expected_BC)
    )
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-7, atol=1e-8)


def test_bert_reads_a_pair_as_the_transformers_library_does() -> None:
    """Its classifier of two segments, on the same weights, in value and in all gradients."""
    import transformers as library

    model = randomised(built("bert_pair_classifier"))
    reference = library.BertForSequenceClassification(bert_config(SIZES.source, BERT)).double()
    reference.eval()
    reference.bert.embeddings.word_embeddings.padding_idx = None
    same = [*bert_encoder(reference, model), *module(reference.classifier, model.output)]
    give(same, reference, model)

    premises, hypotheses = [[5, 6, 7, EOS], [9, EOS]], [[4, EOS], [10, 11, 12, 13, EOS]]
    text, segments = [], []
    for premise, hypothesis in zip(premises, hypotheses, strict=True):
        text.append([BOS, *premise, *hypothesis])
        segments.append([0] * (1 + len(premise)) + [1] * len(hypothesis))
    width = max(map(len, text))
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in text])
    ids, kinds = (
        torch.tensor([row + [0] * (width - len(row)) for row in rows]) for rows in (text, segments)
    )
    expected_BC = reference(input_ids=ids, token_type_ids=kinds, attention_mask=mask).logits
    logits_BC = model.classify_pair(prompt(*premises, width=8), prompt(*hypotheses))
    torch.testing.assert_close(logits_BC, expected_BC, rtol=1e-8, atol=1e-8)
    for output in (logits_BC, expected_BC):
        weighed(output).backward()
    assert_same_gradients(same)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
def test_a_pair_is_joined_with_its_segments(lengths: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(1)
    sides = [
        [[*rng.integers(4, 14, pair[side] - 1).tolist(), EOS] for pair in lengths]
        for side in (0, 1)
    ]
    text, segment_BS = bert_pair_classifier.joined(prompt(*sides[0]), prompt(*sides[1], width=12))
    for row, (premise, hypothesis) in enumerate(zip(*sides, strict=True)):
        whole = [BOS, *premise, *hypothesis]
        assert int(text.length_B[row]) == len(whole)
        rest = text.ids_BS.shape[1] - len(whole)
        assert text.ids_BS[row].tolist() == whole + [PAD] * rest
        kinds = [0] * (1 + len(premise)) + [1] * len(hypothesis) + [0] * rest
        assert segment_BS[row].tolist() == kinds


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 12))
def test_of_a_long_pair_the_longer_text_loses_its_last_word(a: int, b: int, most: int) -> None:
    first, second = a, b
    while first + second > most:
        if first > second:
            first -= 1
        else:
            second -= 1
    first_N, second_N = pairs.cut_lengths(np.array([a]), np.array([b]), most)
    assert (int(first_N[0]), int(second_N[0])) == (first, second)


@pytest.mark.parametrize("family", TRAINED)
def test_a_long_pair_is_read_as_cut(family: str) -> None:
    model = built(family)
    long = table([[5, 6, 7, 8, 9]], [[10, 11, 12]], [0])
    cut = table([[5, 6]], [[10, 11]], [0])
    np.testing.assert_allclose(
        pairs.log_probs(model, long, config(max_length=4), CPU),
        pairs.log_probs(model, cut, config(), CPU),
        rtol=1e-5,
    )


def test_positions_count_both_texts_and_their_ends() -> None:
    rows = table([[5, 6, 7], [5]], [[10], [11, 12]], [0, 1])
    assert pairs.positions(rows, config(), True, False) == 6
    assert pairs.positions(rows, config(), True, True) == 8
    assert pairs.positions(rows, config(max_length=2), True, False) == 4
    assert pairs.Task(rows, rows, config(), 1, CPU).positions().tolist() == [6, 5]


@torch.inference_mode()
def test_word_order_is_lost_on_decomposable_attention_and_not_on_bert() -> None:
    for family in TRAINED:
        model = built(family)
        forward_BC, backward_BC = (
            model.classify_pair(prompt([*words, EOS]), prompt([5, 7, EOS]))
            for words in ([5, 6, 7], [7, 6, 5])
        )
        is_same = torch.allclose(forward_BC, backward_BC, atol=1e-6)
        assert is_same == (family == "decomposable_attention")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_overlap(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train, valid, test = related(1500, 1), related(60, 2), related(150, 3)
    model: Any = built(family)
    if family in TRAINED:
        task = pairs.Task(train, valid, config(), 1, CPU)
        fit(model, task, 0.003, 12, tmp_path)
    else:
        model.fit(train, valid, 1)
    log_probs_NC = pairs.log_probs(model.eval(), test, None, CPU)
    right = (log_probs_NC.argmax(1) == test["label"].to_numpy()).mean()
    # Naive Bayes knows of word 13, and not whether the texts share a word.
    assert right > (0.6 if family == "pair_naive_bayes" else 0.9)


def test_fitted_metrics_are_those_of_the_task() -> None:
    train, valid = related(90, 1), related(60, 2)
    for family in ("pair_naive_bayes", "overlap_classifier"):
        model = built(family)
        metrics = model.fit(train, valid, 1)
        loss, expected = pairs.Task(train, valid, config(), 1, CPU).validate(model)
        assert metrics["loss"] == pytest.approx(float(loss.total) / loss.tokens)
        assert metrics["accuracy"] == pytest.approx(expected["accuracy"])


@pytest.mark.parametrize("texts", ["both", "hypothesis"])
def test_naive_bayes_is_scikit_learns_on_words_marked_by_their_text(texts: str) -> None:
    train, test = related(90, 1), related(30, 2)
    sides = {"both": ("premise", "hypothesis"), "hypothesis": ("hypothesis",)}[texts]

    # Each text is smoothed and normalised by itself: one model of scikit-learn for each.
    expected_NC = 0.0
    for number, side in enumerate(sides):
        counter = CountVectorizer(analyzer=lambda words: words)
        oracle = MultinomialNB(alpha=0.5, fit_prior=number == 0)
        oracle.fit(counter.fit_transform(train[side].to_pylist()), train["label"].to_numpy())
        expected_NC = expected_NC + oracle.predict_joint_log_proba(
            counter.transform(test[side].to_pylist())
        )
    expected_NC = expected_NC - np.log(np.exp(expected_NC).sum(1, keepdims=True))
    model = built("pair_naive_bayes", texts=texts)
    model.fit(train, test, 1)
    log_probs_NC = pairs.log_probs(model, test, None, CPU)
    np.testing.assert_allclose(log_probs_NC, expected_NC, atol=1e-5)


def plain_overlap(premise: list[int], hypothesis: list[int]) -> list[float]:
    shared = [word for word in hypothesis if word in premise]
    only = [word for word in premise if word not in hypothesis]
    first, second = set(pairwise(premise)), list(pairwise(hypothesis))
    return [
        len(shared),
        len(shared) / max(1, len(hypothesis)),
        len(hypothesis) - len(shared),
        len(only),
        len(only) / max(1, len(premise)),
        len(premise) - len(hypothesis),
        sum(pair in first for pair in second) / max(1, len(second)),
        float(premise[:2] == hypothesis[:2] and len(premise) > 1),
    ]


def test_overlap_is_counted_as_by_hand_and_fitted_by_scikit_learn() -> None:
    train, test = related(120, 1), related(30, 2)
    features = {}
    for name, rows in {"train": train, "test": test}.items():
        both = zip(rows["premise"].to_pylist(), rows["hypothesis"].to_pylist(), strict=True)
        features[name] = np.array([plain_overlap(*pair) for pair in both])
    premise, hypothesis = prompt([5, 6, 5, EOS], [7, EOS]), prompt([5, 6, 9, EOS], [8, 7, EOS])
    feature_BF = overlap(premise.ids_BS, hypothesis.ids_BS)
    expected = [plain_overlap([5, 6, 5], [5, 6, 9]), plain_overlap([7], [8, 7])]
    np.testing.assert_allclose(feature_BF.numpy(), expected)

    mean, deviation = features["train"].mean(0), np.maximum(features["train"].std(0), 1e-9)
    oracle = LogisticRegression(C=1.0, max_iter=10_000)
    oracle.fit((features["train"] - mean) / deviation, train["label"].to_numpy())
    expected_NC = oracle.predict_log_proba((features["test"] - mean) / deviation)
    model = built("overlap_classifier")
    model.fit(train, test, 1)
    np.testing.assert_allclose(pairs.log_probs(model, test, None, CPU), expected_NC, atol=1e-6)


def test_overlap_of_two_labels_has_two_logits() -> None:
    rows = related(90, 1)
    two = rows.filter(pa.compute.less(rows["label"], 2))
    model: Any = checkpoint.build("overlap_classifier", {"C": 1.0}, Sizes(14, 2, False), "m").eval()
    assert model.fit(two, two, 1)["accuracy"] > 0.95


def test_initial_weights_are_word_vectors_or_bert() -> None:
    assert init_from.compatible_families("decomposable_attention")["word2vec"] == {
        "dimension": "embedding"
    }
    assert set(init_from.compatible_families("bert_pair_classifier")) == {
        "bert",
        "bert_pair_classifier",
    }
    torch.manual_seed(1)
    bert: Any = checkpoint.build("bert", BERT, Sizes(14, 14, True), "model")
    model = built("bert_pair_classifier")
    model.load_pretrained(bert.state_dict())
    assert torch.equal(model.encoder.tokens.weight, bert.encoder.tokens.weight)


@pytest.mark.parametrize(
    ("family", "changes", "line"),
    [
        ("decomposable_attention", {"hidden": 0}, "hidden: got 0"),
        ("decomposable_attention", {"dropout": 1.0}, "dropout: got 1.0"),
        ("pair_naive_bayes", {"texts": "premise"}, "texts: got premise; expected"),
        ("pair_naive_bayes", {"alpha": 0.0}, "alpha: got 0.0; expected above 0"),
        ("overlap_classifier", {"C": 0.0}, "C: got 0.0; expected above 0"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(family: str, changes: Any, line: str) -> None:
    with pytest.raises(UserError) as refused:
        built(family, **changes)
    assert str(refused.value).startswith(f"settings.test.model.{line}")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"max_length": 1}, "max_length: got 1; expected at least 2, a word of each text, or null"),
        ({"max_length": 299}, "batch_tokens: got 300; expected at least 301, for one pair."),
    ],
)
def test_bad_objectives_are_refused_in_one_line(changes: Any, line: str) -> None:
    with pytest.raises(UserError) as refused:
        config(**changes)
    assert str(refused.value).startswith(line)
