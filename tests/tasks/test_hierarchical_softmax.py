"""Hierarchical softmax: the tree is Huffman's, the probabilities sum to 1, and the loss and its
gradient are the equation's, pair by pair."""

import functools
import heapq
from pathlib import Path

import numpy as np
import pytest
import torch
from long_cases import mostly_long
from test_word_vectors import objective, pairs, random_model, random_rows, task, topic_sentences
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import UserError
from pipeline.models import word2vec
from pipeline.nn.hierarchical_softmax import Tree, huffman_tree, log_probability
from pipeline.nn.word2vec_loss import WindowBatch
from pipeline.tasks import word_vectors
from pipeline.training import loop, optim

COUNTS = np.array([0, 0, 0, 0, 50, 7, 7, 1, 3, 0, 20, 2])


def ways(tree: Tree, word: int) -> list[tuple[int, int]]:
    """(node, sign) from the root to the word."""
    rows, signs = tree.node_VL[word].tolist(), tree.sign_VL[word].tolist()
    return [(row, int(sign)) for row, sign in zip(rows, signs, strict=True) if sign]


def shortest_total(counts: list[int]) -> int:
    """Sum of counts times depths of the best tree: that of all joined counts (Huffman 1952)."""
    heap, total = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_has_the_shortest_ways(seed: int) -> None:
    counts = COUNTS if seed == 0 else np.random.default_rng(seed).integers(0, 40, 30)
    tree = huffman_tree(counts)
    words = counts.nonzero()[0].tolist()
    depths = {word: len(ways(tree, word)) for word in words}
    total = sum(counts[word] * depth for word, depth in depths.items())
    assert total == shortest_total(counts[words].tolist())
    nodes = {row for word in words for row, _ in ways(tree, word)}
    assert nodes == set(words[:-1]), "one fewer than the words, in the first rows"
    assert all(not ways(tree, word) for word in range(len(counts)) if word not in depths)


def test_probabilities_sum_to_one() -> None:
    tree = huffman_tree(COUNTS)
    model = random_model(len(COUNTS))
    words = torch.from_numpy(COUNTS.nonzero()[0])
    score_NL = model.output(tree.node_VL[words]) @ torch.randn(7)
    log_prob_N = log_probability(tree, words, score_NL)
    assert float(log_prob_N.detach().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_a_text_of_one_word_needs_no_tree() -> None:
    tree = huffman_tree(np.array([0, 0, 0, 0, 9]))
    assert tree.node_VL.shape == tree.sign_VL.shape == (5, 0)
    made = task([[4, 4, 4]], negatives=None, noise_words=None)
    loss, _ = made.loss(random_model(5), made.batch(made.plan(0)[0]), None)
    assert float(loss.total.detach()) == 0


def plain_loss(
    config: word_vectors.Config,
    batch: WindowBatch,
    tree: Tree,
    v: Tensor,
    v_out: Tensor,
) -> Tensor:
    """Mikolov et al. 2013b, equation 3, node by node."""
    total = torch.zeros((), dtype=v.dtype)
    for _, word, contexts, _ in pairs(batch, config.window):
        if config.method == "skip_gram":
            asked = [(v[word], context) for context in contexts]
        else:
            mean = torch.stack([v[context] for context in contexts]).mean(0)
            if mean.requires_grad:
                # Mikolov's program gives each context the whole gradient of the mean.
                mean.register_hook(functools.partial(torch.mul, len(contexts)))
            asked = [(mean, word)]
        for read, said in asked:
            for row, sign in ways(tree, said):
                total = total - torch.log(torch.sigmoid(sign * (v_out[row] @ read)))
    return total


@pytest.mark.parametrize("method", ["skip_gram", "cbow"])
def test_the_loss_is_equation_3_pair_by_pair_and_so_is_its_gradient(method: str) -> None:
    made = task(random_rows(12, 15), method=method, negatives=None, noise_words=None)
    assert made.tree is not None
    model = random_model(15).double()
    batch = made.batch(made.plan(0)[0])
    batch = batch._replace(context_GTC=batch.context_GTC.double())
    loss, _ = made.loss(model, batch, None)
    loss.total.backward()
    v, v_out = (
        weight.detach().clone().requires_grad_()
        for weight in (model.input.weight, model.output.weight)
    )
    plain = plain_loss(made.config, batch, made.tree, v, v_out)
    plain.backward()
    torch.testing.assert_close(loss.total, plain, rtol=1e-6, atol=0)
    for ours, theirs in ((model.input, v), (model.output, v_out)):
        assert ours.weight.grad is not None
        assert ours.weight.grad.is_sparse
        torch.testing.assert_close(ours.weight.grad.to_dense(), theirs.grad, rtol=1e-6, atol=1e-9)
    wanted = [
        len(contexts) if method == "skip_gram" else 1 for _, _, contexts, _ in pairs(batch, 2)
    ]
    assert loss.tokens == sum(wanted)


@pytest.mark.parametrize("method", mostly_long(["skip_gram", "cbow"], 1))
def test_words_that_stand_for_each_other_become_neighbours(method: str, tmp_path: Path) -> None:
    topics = 3
    torch.manual_seed(2)
    vocabulary = 4 + 5 * topics
    model = word2vec.Model(word2vec.Config(dimension=8), Sizes(vocabulary, vocabulary, True))
    changes = {"method": method, "batch_size": 64, "block_size": 8}
    made = task(topic_sentences(topics, 500, 1), negatives=None, noise_words=None, **changes)
    rate = optim.load(
        {
            "name": "adagrad",
            "learning_rate": 0.3,
            "weight_decay": 0.0,
            "clip_norm": None,
            "schedule": {"name": "cosine", "warmup_steps": 0},
        },
        "optim",
    )
    steps = loop.Config(
        max_epochs=6, patience=None, accumulate=1, average=None, precision="float32", threads=1
    )
    run = loop.Loop(model, made, rate, steps, seed=7, work=tmp_path, log=lambda *_: None)
    run.run(lambda *_: None)
    vectors = nn.functional.normalize(model.input.weight.detach()[4 : 4 + 2 * topics], dim=1)
    nearest = (vectors @ vectors.T - 2 * torch.eye(2 * topics)).argmax(1)
    assert nearest.tolist() == [word ^ 1 for word in range(2 * topics)]


@pytest.mark.parametrize(
    ("negatives", "noise_words"), [(None, 16), (5, None)], ids=["negatives", "noise_words"]
)
def test_one_of_both_numbers_alone_is_refused(
    negatives: int | None, noise_words: int | None
) -> None:
    shown = [number or "null" for number in (noise_words, negatives)]
    line = f"noise_words: got {shown[0]} with negatives {shown[1]}; expected two numbers"
    with pytest.raises(UserError, match=f"^{line}"):
        objective(negatives=negatives, noise_words=noise_words)
