"""Models that are fitted without gradients: their blocks, their validation metrics, and buffers
whose sizes only the file knows."""

import dataclasses
import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import nn

from pipeline.contracts import Fitted, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.training import checkpoint, fitted


class Counter(nn.Module):
    """Log-probabilities of the ids that occur, by relative frequency."""

    def __init__(self, block: dict[str, int], sizes: Sizes) -> None:
        super().__init__()
        self.loss = block["loss"]
        self.register_buffer("ids", torch.empty(0, dtype=torch.int64))
        self.register_buffer("log_probs", torch.empty(0, dtype=torch.float64))
        self.register_buffer("nothing", torch.empty(0, 3))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        ids = torch.tensor([i for row in train["ids"].to_pylist() for i in row])
        self.ids, counts = ids.unique(return_counts=True)
        self.log_probs = (counts.double() / counts.sum()).log()
        return {"loss": float(self.loss), "seed": float(seed)}


def table(*rows: list[int]) -> pa.Table:
    columns = {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)}
    return pa.table({name: list(values) for name, values in columns.items()}).cast(
        tables.ENCODED_TEXT
    )


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checkpoint, "build", lambda family, block, sizes, *rest: Counter(block, sizes)
    )


@pytest.mark.usefixtures("family")
def test_a_fitted_model_is_loaded_with_the_sizes_of_its_file(tmp_path: Path) -> None:
    sizes = Sizes(9, 9, True)
    model = Counter({"loss": 2}, sizes)
    assert isinstance(model, Fitted)
    logged = []
    progress = fitted.fit(
        model, table([5, 6, 5], [7]), table([5]), 3, lambda *row: logged.append(row)
    )
    run = {"family": "counter", "model": {"loss": 2}}
    facts = {"run": run, "sizes": dataclasses.asdict(sizes)}
    checkpoint.write_model(tmp_path, model, facts)

    loaded = checkpoint.load_model(tmp_path, torch.device("cpu"))
    assert loaded.ids.tolist() == [5, 6, 7]
    assert torch.equal(loaded.log_probs, model.log_probs)
    assert loaded.nothing.shape == (0, 3)
    assert checkpoint.parameter_count(loaded) == 3, "numbers, and no ids"
    expected = {"valid/loss": 2.0, "valid/perplexity": math.exp(2), "valid/seed": 3.0}
    assert logged == [(expected, 1)]
    assert progress.history == [(1, 1, name, value) for name, value in expected.items()]
    assert (progress.step, progress.best_step) == (1, 1)


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("ids", torch.zeros(3)),
        ("log_probs", torch.zeros(1, 3, dtype=torch.float64)),
        ("more", torch.zeros(2)),
    ],
)
def test_a_tensor_of_another_type_or_dimension_is_refused(
    name: str, tensor: torch.Tensor, tmp_path: Path
) -> None:
    model = Counter({"loss": 2}, Sizes(9, 9, True))
    model.fit(table([5]), table([5]), 1)
    facts = {
        "run": {"family": "counter", "model": {"loss": 2}},
        "sizes": dataclasses.asdict(Sizes(9, 9, True)),
    }
    checkpoint.write_model(tmp_path, model, facts)
    tensors, _ = checkpoint.load(tmp_path / "model.safetensors")
    tensors[name] = tensor
    checkpoint.save(tmp_path / "model.safetensors", tensors, {})
    with pytest.raises(UserError, match=f"{name}: got .*; expected"):
        checkpoint.load_model(tmp_path, torch.device("cpu"))


def test_a_metric_that_is_not_finite_is_refused() -> None:
    model = Counter({"loss": math.nan}, Sizes(9, 9, True))
    with pytest.raises(UserError, match="got a validation loss of nan; expected a number"):
        fitted.fit(model, table([5]), table([5]), 1, lambda *_: None)
