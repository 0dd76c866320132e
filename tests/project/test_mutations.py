"""Rules of training, search and scoring that a slip of one sign or one index would break unseen."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import synthetic_runs
import torch
from decoding_models import beam_config, noise, prompts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.contracts import EOS, Prompt
from pipeline.core import tables
from pipeline.decoding import beam
from pipeline.nn import segments
from pipeline.nn.cells import Recurrent
from pipeline.scoring import lengths
from pipeline.text import token_budget

CELLS = {"rnn": 1, "gru": 3, "lstm": 4}


# Recurrent layers


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_each_gates_hidden_matrix_is_orthogonal_and_no_other_is(
    cell: Any, bidirectional: bool
) -> None:
    torch.manual_seed(1)
    hidden = 6
    kernel = Recurrent(cell, hidden, hidden, 2, 0.0, "fused", bidirectional=bidirectional).kernel
    names = [name for name, _ in kernel.named_parameters() if name.startswith("weight")]
    assert len(names) == 4 * (2 if bidirectional else 1)
    for name in names:
        gates = getattr(kernel, name).detach().split(hidden)
        assert len(gates) == CELLS[cell]
        for gate in gates:
            narrow = gate[:, :hidden]
            orthogonal = torch.allclose(narrow @ narrow.T, torch.eye(hidden), atol=1e-5)
            assert orthogonal == name.startswith("weight_hh"), name


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_new_lstm_forgets_little_and_its_other_gates_have_torchs_biases(
    bidirectional: bool,
) -> None:
    """Torch's order of gates is input, forget, cell, output; the two biases of a gate are added."""
    torch.manual_seed(1)
    hidden = 5
    kernel = Recurrent("lstm", 3, hidden, 2, 0.0, "fused", bidirectional=bidirectional).kernel
    bound = 1 / math.sqrt(hidden)
    for name, bias in kernel.named_parameters():
        if name.startswith("bias"):
            gates = bias.detach().view(4, hidden)
            open_gates = [bool((gate == 1).all()) for gate in gates]
            assert open_gates == (
                [False, True, False, False] if name.startswith("bias_ih") else [False] * 4
            )
            assert all(
                (gate.abs() <= bound).all()
                for gate, is_open in zip(gates, open_gates, strict=True)
                if not is_open
            )


def test_a_new_lstm_keeps_its_memory_whatever_it_reads() -> None:
    """With all weights 0 only the biases speak: a memory of 1 is kept to sigmoid(1) and half of a
    candidate is added."""
    cells = Recurrent("lstm", 2, 3, 1, 0.0, "fused")
    with torch.no_grad():
        for name, parameter in cells.kernel.named_parameters():
            if name != "bias_ih_l0":
                parameter.zero_()
            else:
                parameter[parameter != 1] = 0.0
    _, (_, memory) = cells(torch.zeros(1, 1, 2), (torch.zeros(1, 1, 3), torch.ones(1, 1, 3)))
    torch.testing.assert_close(memory, torch.full((1, 1, 3), 1 / (1 + math.exp(-1))))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_within_long_rows_is_between_layers_and_only_in_training(
    cell: Any, bidirectional: bool
) -> None:
    torch.manual_seed(3)
    length = torch.tensor([segments.LONG + 6, segments.LONG, 9])
    x = torch.randn(3, segments.LONG + 6, 4)

    def read(layers: int, p: float, training: bool) -> Tensor:
        torch.manual_seed(7)
        cells = Recurrent(cell, 4, 5, layers, p, "fused", bidirectional=bidirectional).train(
            training
        )
        out: Tensor = cells.forward_padded(x, length)[0].detach()
        return out

    torch.testing.assert_close(read(2, 0.5, training=False), read(2, 0.0, training=True))
    torch.testing.assert_close(read(1, 0.5, training=True), read(1, 0.0, training=True))
    assert not torch.allclose(read(2, 0.5, training=True), read(2, 0.0, training=True))


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_within_long_rows_is_dropout_of_the_lower_layers_outputs(
    cell: Any, monkeypatch: Any
) -> None:
    """Against one layer after the other by torch's own kernels, with the same choice of what is
    dropped."""
    torch.manual_seed(3)
    size, length = segments.LONG + 6, torch.tensor([segments.LONG + 6, 20])
    x = torch.randn(2, size, 4)
    cells = Recurrent(cell, 4, 5, 3, 0.4, "fused")
    dropped: list[tuple[Tensor, float, bool]] = []

    def every_third(hidden: Tensor, p: float, training: bool) -> Tensor:
        dropped.append((hidden.detach().clone(), p, training))
        return hidden * every_third_mask(hidden)

    def every_third_mask(hidden: Tensor) -> Tensor:
        return (torch.arange(hidden.numel()) % 3 > 0).float().view(hidden.shape)

    monkeypatch.setattr(segments, "dropout", every_third)
    out, state = cells.forward_padded(x, length)
    assert [(p, training) for _, p, training in dropped] == [(0.4, True)] * 2

    below = x
    for layer in range(3):
        single = type(cells.kernel)(below.shape[-1], 5, batch_first=True)
        weights = {
            name: getattr(cells.kernel, name.replace("_l0", f"_l{layer}"))
            for name, _ in single.named_parameters()
        }
        single.load_state_dict(weights)
        packed = torch.nn.utils.rnn.pack_padded_sequence(below, length, batch_first=True)
        above, _ = torch.nn.utils.rnn.pad_packed_sequence(
            single(packed)[0], batch_first=True, total_length=size
        )
        if layer < 2:
            torch.testing.assert_close(dropped[layer][0], above)
            below = above * every_third_mask(above)
    torch.testing.assert_close(out, above)
    torch.testing.assert_close(
        state[0][-1], torch.stack([above[row, n - 1] for row, n in enumerate(length.tolist())])
    )


# Beam search


class Scripted:
    """Next-token log-probabilities by the number of tokens said so far and the last one; counts its
    steps."""

    def __init__(self, table: dict[tuple[int, int], dict[int, float]], vocabulary: int) -> None:
        self.table, self.vocabulary, self.steps = table, vocabulary, 0

    def begin(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        rows = len(prompt.length_B)
        return torch.zeros(rows, 1), torch.full((rows,), EOS)

    def step(self, state: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor]:
        self.steps += 1
        out = torch.full((len(last_B), self.vocabulary), -math.inf)
        for row, token in enumerate(last_B.tolist()):
            for ids, value in self.table[int(state[row, 0]), token].items():
                out[row, ids] = value
        return out, state + 1

    def reorder(self, state: Tensor, rows_B: Tensor) -> Tensor:
        return state.index_select(0, rows_B)


def one_or_longer(last: float, max_length: int) -> Scripted:
    """Tokens 4 are as sure as can be until, at the limit, EOS; at first there is EOS with log P -1,
    or 4 with `last`."""
    table = {(0, EOS): {EOS: -1.0, 4: last}}
    table |= {(length, 4): {4: 0.0} for length in range(1, max_length - 1)} | {
        (max_length - 1, 4): {EOS: 0.0}
    }
    return Scripted(table, 6)


@pytest.mark.parametrize("max_length", [2, 3, 6])
def test_beam_continues_while_a_full_length_hypothesis_could_win(max_length: int) -> None:
    """The long answer's score is log P / max_length: a hair better, or worse, than that of the
    short one, -1."""
    better, worse = (
        one_or_longer(-max_length + 0.01, max_length),
        one_or_longer(-max_length - 0.01, max_length),
    )
    setting = beam_config(2, 1.0, 1, max_length)
    (answers,) = beam.search(better, prompts(1), setting, noise())
    assert len(answers[0].ids) == max_length - 1, "the longer answer is the better one"
    (answers,) = beam.search(worse, prompts(1), setting, noise())
    assert answers[0].ids == ()
    assert (better.steps, worse.steps) == (max_length, 1), "no step more than can matter"


def test_beam_continues_when_a_continuation_could_tie() -> None:
    """Of equal scores the one with the lower ids comes first, so a tie matters."""
    level = one_or_longer(-4.0, 4)
    beam.search(level, prompts(1), beam_config(2, 1.0, 1, 4), noise())
    assert level.steps == 4


# Batches


def plain_batches(sizes: list[int], budget: int) -> list[list[int]]:
    """Rows of ascending sizes, each added to the batch while the padded batch is within the
    budget."""
    batches: list[list[int]] = []
    for row, size in enumerate(sizes):
        if batches and (len(batches[-1]) + 1) * size <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 48))
def test_batches_fill_the_token_budget_and_never_exceed_it(sizes: list[int], budget: int) -> None:
    sizes = sorted(sizes)
    batches = token_budget.batches_by_budget(
        np.arange(len(sizes)), np.array(sizes), budget, np.random.default_rng(0)
    )
    assert sorted(batch.tolist() for batch in batches) == plain_batches(sizes, budget)


def test_a_batch_of_exactly_the_budget_is_one_batch() -> None:
    batches = token_budget.batches_by_budget(
        np.arange(6), np.array([4] * 6), 24, np.random.default_rng(0)
    )
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3, 4, 5]]
    batches = token_budget.batches_by_budget(
        np.arange(6), np.array([4] * 6), 23, np.random.default_rng(0)
    )
    assert sorted(len(batch) for batch in batches) == [1, 5]


@settings(deadline=None)
@given(st.integers(1, 100))
def test_rows_are_padded_to_the_next_multiple_of_four(length: int) -> None:
    column = pa.chunked_array([pa.array([[7] * (length - 1)], type=pa.list_(pa.int32()))])
    padded = token_budget.Ragged(column).padded(np.array([0]), before=None, after=EOS)
    assert padded.shape[1] % 4 == 0
    assert length <= padded.shape[1] < length + 4
    assert padded[0, :length].tolist() == [7] * (length - 1) + [EOS]


# Scores by length


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(20, 25))
def test_buckets_of_lengths_begin_after_multiples_of_a_round_width(
    sizes: list[int], rows: int
) -> None:
    """With 20 rows of each length none is merged: lengths k * width + 1 to (k + 1) * width are one
    bucket."""
    length = np.repeat(np.array(sorted(set(sizes)), dtype=np.int64), rows)
    span = int(length.max() - length.min()) + 1
    width = min(w * 10**e for e in range(4) for w in (1, 2, 5) if w * 10**e * 8 >= span)
    expected: dict[int, list[int]] = {}
    for row, size in enumerate(length.tolist()):
        expected.setdefault(math.ceil(size / width), []).append(row)
    assert [bucket.tolist() for bucket in lengths.buckets(length)] == list(expected.values())


@pytest.mark.parametrize(("rows", "count"), [(19, 1), (20, 2)])
def test_buckets_of_fewer_than_twenty_rows_are_merged(rows: int, count: int) -> None:
    length = np.array([1] * 30 + [2] * rows)
    assert len(lengths.buckets(length)) == count


@pytest.mark.parametrize("longer", [True, False])
def test_the_length_ratio_is_answers_over_references(longer: bool, tmp_path: Path) -> None:
    project = synthetic_runs.project(tmp_path, {"transformer": 0.1}, {}, rows=20)
    references, answers = ["a b c d e f g"] * 20, ["a b c d"] * 20
    if longer:
        references, answers = answers, references
    for split in ("test", "test_long"):
        path = project / f"data/tokens/pairs/{split}.parquet"
        table = tables.read(path, tables.TOKENS_PAIR)
        targets = pa.array((references * len(table))[: len(table)])
        tables.write(
            path, table.set_column(table.schema.get_field_index("target"), "target", targets)
        )
        texts = (answers * len(table))[: len(table)]
        synthetic_runs.hypotheses(
            project / f"data/predictions/transformer/hypotheses_{split}.parquet", texts
        )
    stage_runs.run(project, "evaluate", "transformer")
    metrics = json.loads((project / "reports/metrics/transformer.json").read_text(encoding="utf-8"))
    assert metrics["test"]["length_ratio"] == pytest.approx(7 / 4 if longer else 4 / 7, abs=1e-5)
