"""The training loop: exact resume, early stopping, best and averaged weights, accumulation, and
what stops it."""

import dataclasses
import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fitting import OWN_KEYS
from long_cases import mostly_long
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.contracts import Loss, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tasks import language_model, masked_language_model, translation
from pipeline.training import averaging, checkpoint, devices, loop, optim

CPU = torch.device("cpu")
LM = {
    "cell": "lstm",
    "embedding": 8,
    "hidden": 12,
    "layers": 2,
    "dropout": 0.3,
    "tied": False,
    "implementation": "fused",
}
BERT = {
    "width": 16,
    "heads": 2,
    "feed_forward": 16,
    "layers": 1,
    "dropout": 0.2,
    "learned_positions": 16,
    "implementation": "fused",
}
TRANSLATOR = {
    "width": 16,
    "heads": 2,
    "feed_forward": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "variants": [],
    "dropout": 0.2,
    "norm": "layer",
    "norm_first": True,
    "learned_positions": None,
    "implementation": "fused",
    "tied": "all",
}


def optim_config(name: str = "adam", **changes: Any) -> optim.Config:
    given: dict[str, Any] = {
        "name": name,
        "learning_rate": 0.01,
        **OWN_KEYS[name],
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "schedule": {"name": "cosine", "warmup_steps": 3},
    }
    return optim.load(given | changes, "optim")


def training_config(**changes: Any) -> loop.Config:
    given: dict[str, Any] = {
        "max_epochs": 3,
        "patience": None,
        "accumulate": 1,
        "average": None,
        "precision": "float32",
        "threads": 1,
    }
    return loop.Config(**(given | changes))


def case(kind: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(4)
    generator = torch.Generator().manual_seed(9)
    rows = torch.randint(4, 10, (60, 7), generator=generator).tolist()
    if kind == "language_model":
        table = pa.table(
            {"row": range(60), "ids": rows, "paragraph": [0] * 60}, schema=tables.ENCODED_TEXT
        )
        objective = language_model.Config(
            batch_size=3, steps=5, sampling="sequential", max_train_tokens=None, softmax_words=None
        )
        return checkpoint.build(
            "recurrent_lm", LM, Sizes(10, 10, True), "model"
        ), language_model.Task(table, table, objective, 1, CPU)
    if kind == "masked_language_model":
        table = pa.table(
            {"row": range(60), "ids": rows, "paragraph": [i // 6 for i in range(60)]},
            schema=tables.ENCODED_TEXT,
        )
        masking = masked_language_model.Config(batch_size=3, max_length=16, max_train_pairs=None)
        return checkpoint.build(
            "bert", BERT, Sizes(10, 10, True), "model"
        ), masked_language_model.Task(table, table, masking, 1, CPU)
    pairs = pa.table(
        {"row": range(60), "source": rows, "target": rows[::-1]}, schema=tables.ENCODED_PAIR
    )
    config = translation.Config(
        batch_tokens=24,
        label_smoothing=0.1,
        max_length=10,
        scheduled_sampling=None,
        padding_in_loss=False,
    )
    return checkpoint.build(
        "transformer", TRANSLATOR, Sizes(10, 10, True), "model"
    ), translation.Task(pairs, pairs, config, 1, CPU)


def trainer(
    kind: str, work: Path, log: Any = lambda *_: None, optimiser: str = "adam", **changes: Any
) -> loop.Loop:
    model, task = case(kind)
    return loop.Loop(
        model, task, optim_config(optimiser), training_config(**changes), seed=7, work=work, log=log
    )


class Killed(Exception):
    """Stands for a kill: nothing after it runs."""


def same(one: loop.Loop, other: loop.Loop) -> None:
    """Their weights are the same bits."""
    for name, tensor in checkpoint.unique_tensors(one.model).items():
        assert torch.equal(tensor, checkpoint.unique_tensors(other.model)[name]), name


@functools.cache
def undisturbed(kind: str, **changes: Any) -> tuple[loop.Loop, loop.Progress]:
    """A training in one go, the same for every moment of a kill."""
    with tempfile.TemporaryDirectory() as work:
        whole = trainer(kind, Path(work), **changes)
        return whole, whole.run(lambda *_: None)


def resumed_as_if_never_killed(kind: str, kill_at: int, folder: Path, **changes: Any) -> None:
    """Train once in one go, and once killed after the step `kill_at` and resumed: history and
    weights are the same."""
    whole, done = undisturbed(kind, **changes)
    assert done.step > kill_at

    def kill(p: loop.Progress, steps: int) -> None:
        if p.step == kill_at + 1:
            raise Killed

    with pytest.raises(Killed):
        trainer(kind, folder / "cut", **changes).run(kill)
    resumed = trainer(kind, folder / "cut", **changes)
    assert resumed.run(lambda *_: None).history == done.history
    same(whole, resumed)


@pytest.fixture
def saved_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state at every step: any of them may be the last before a kill."""
    monkeypatch.setenv("SEQLINE_SAVE_SECONDS", "0")


@pytest.mark.usefixtures("saved_at_every_step")
@pytest.mark.parametrize("kind", ["language_model", "masked_language_model", "translation"])
@pytest.mark.parametrize("kill_at", mostly_long([25, 1, 10, 44], 1))
def test_a_killed_training_resumes_to_the_same_bytes(
    kind: str, kill_at: int, tmp_path: Path
) -> None:
    resumed_as_if_never_killed(kind, kill_at, tmp_path)


@pytest.mark.usefixtures("saved_at_every_step")
@pytest.mark.parametrize("optimiser", mostly_long([name for name in OWN_KEYS if name != "adam"], 2))
def test_a_killed_training_resumes_with_every_optimiser(optimiser: str, tmp_path: Path) -> None:
    resumed_as_if_never_killed("translation", 9, tmp_path, optimiser=optimiser, max_epochs=1)


@pytest.mark.usefixtures("saved_at_every_step")
@pytest.mark.parametrize(
    ("kind", "kill_at"),
    mostly_long([("translation", 6), ("language_model", 19), ("translation", 1)], 1),
)
def test_a_killed_training_that_accumulates_and_averages_resumes(
    kind: str, kill_at: int, tmp_path: Path
) -> None:
    resumed_as_if_never_killed(kind, kill_at, tmp_path, accumulate=3, average=2)


@pytest.mark.parametrize("saved_at", [0, 21])
def test_weights_kept_after_the_last_saved_state_are_averaged_as_if_never_killed(
    saved_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer("translation", tmp_path / "whole", average=2)
    done = whole.run(lambda *_: None)

    def save_once(p: loop.Progress, steps: int) -> None:
        cut.save_seconds = 0.0 if p.step == saved_at else math.inf

    def keep_and_die(work: Path, epoch: int, last: int, tensors: dict[str, Tensor]) -> None:
        kept(work, epoch, last, tensors)
        if epoch == 3:
            raise Killed

    kept = averaging.save_epoch
    monkeypatch.setattr(averaging, "save_epoch", keep_and_die)
    cut = trainer("translation", tmp_path / "cut", average=2)
    with pytest.raises(Killed):
        cut.run(save_once)
    monkeypatch.setattr(averaging, "save_epoch", kept)
    resumed = trainer("translation", tmp_path / "cut", average=2)
    assert resumed.run(lambda *_: None).history == done.history
    same(whole, resumed)


def test_a_training_killed_while_its_average_is_validated_says_so_once(tmp_path: Path) -> None:
    def die(metrics: dict[str, float], step: int) -> None:
        if "valid/averaged_loss" in metrics:
            raise Killed

    with pytest.raises(Killed):
        trainer("translation", tmp_path, die, average=3).run(lambda *_: None)
    done = trainer("translation", tmp_path, average=3).run(lambda *_: None)
    assert [name for _, _, name, _ in done.history].count("valid/averaged_loss") == 1


@pytest.mark.long
def test_save_frequency_does_not_change_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = trainer("translation", tmp_path / "seldom")
    seldom.run(lambda *_: None)
    monkeypatch.setenv("SEQLINE_SAVE_SECONDS", "0")
    often = trainer("translation", tmp_path / "often")
    often.run(lambda *_: None)
    same(seldom, often)


@pytest.mark.parametrize("said", ["often", "-1", "nan"])
def test_an_interval_that_is_none_is_refused(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQLINE_SAVE_SECONDS", said)
    with pytest.raises(
        UserError, match=rf"^SEQLINE_SAVE_SECONDS: got {said}; expected a number of seconds"
    ):
        trainer("translation", tmp_path)


class Fixed:
    """A task with a given validation loss for each epoch, and a quadratic to train on."""

    def __init__(self, valid: list[float], train: float = 1.0) -> None:
        self.valid, self.train = iter(valid), train

    def plan(self, epoch: int) -> list[int]:
        return [0, 1]

    def batch(self, planned: int) -> int:
        return planned

    def loss(self, model: nn.Module, batch: int, carry: None) -> tuple[Loss, None]:
        weight: Tensor = model.weight  # type: ignore[assignment]
        return Loss(weight.square().sum() * self.train, 1), None

    def validate(self, model: nn.Module) -> tuple[Loss, dict[str, float]]:
        return Loss(torch.tensor(next(self.valid)), 1), {}

    def describe(self, planned: int) -> str:
        return f"row {planned}"


def fixed(task: Fixed, work: Path, **changes: Any) -> loop.Loop:
    model = nn.Linear(2, 2, bias=False)
    return loop.Loop(
        model,
        task,
        optim_config(),
        training_config(**changes),
        seed=1,
        work=work,
        log=lambda *_: None,
    )


def test_training_stops_when_patience_is_out_and_keeps_the_best_weights(tmp_path: Path) -> None:
    weights: list[Tensor] = []
    trained = fixed(Fixed([3.0, 2.0, 2.5, 2.6, 1.0]), tmp_path, max_epochs=5, patience=2)

    def remember(p: loop.Progress, batches: int) -> None:
        weights.append(trained.model.weight.detach().clone())  # type: ignore[operator, union-attr]

    done = trained.run(remember)
    assert (done.epoch, done.best_step, done.best_loss) == (4, 4, 2.0)
    assert torch.equal(trained.model.weight, weights[3])  # type: ignore[arg-type]


@pytest.mark.usefixtures("saved_at_every_step")
@pytest.mark.parametrize("average", [None, 2])
@pytest.mark.parametrize("kill_at", range(1, 9))
def test_a_killed_training_resumes_with_the_epochs_that_it_has_waited(
    kill_at: int, average: int | None, tmp_path: Path
) -> None:
    """The second epoch is the best, and patience ends after the fifth; two steps make an epoch."""
    valid = [3.0, 2.0, 2.5, 2.4, 2.3, 1.0, 1.0, 1.0]
    stopping = {"max_epochs": 8, "patience": 3, "average": average}
    torch.manual_seed(1)
    undisturbed = fixed(Fixed(valid), tmp_path / "whole", **stopping)
    done = undisturbed.run(lambda *_: None)
    assert (done.epoch, done.step) == (5, 10)

    def kill(p: loop.Progress, steps: int) -> None:
        if p.step == kill_at + 1:
            raise Killed

    torch.manual_seed(1)
    with pytest.raises(Killed):
        fixed(Fixed(valid), tmp_path / "cut", **stopping).run(kill)
    torch.manual_seed(1)
    # The state of a step is from before the validation that may follow it.
    resumed = fixed(Fixed(valid[(kill_at - 1) // 2 :]), tmp_path / "cut", **stopping)
    assert resumed.run(lambda *_: None).history == done.history
    same(undisturbed, resumed)


@pytest.mark.parametrize(("average", "patience"), [(1, None), (2, None), (4, None), (4, 1)])
def test_the_final_weights_are_the_mean_of_the_last_epochs_and_validated(
    average: int, patience: int | None, tmp_path: Path
) -> None:
    """With patience 1 there are but three epochs to average."""
    weights: list[Tensor] = []
    valid = [3.0, 2.0, 2.5, 0.5] if patience else [3.0, 2.0, 2.5, 2.75, 0.5]
    trained = fixed(Fixed(valid), tmp_path, max_epochs=4, patience=patience, average=average)

    def remember(p: loop.Progress, steps: int) -> None:
        weights.append(trained.model.weight.detach().clone())  # type: ignore[operator, union-attr]

    done = trained.run(remember)
    at_ends = weights[1::2][-average:]
    assert torch.allclose(trained.model.weight, torch.stack(at_ends).mean(0), atol=1e-7)  # type: ignore[arg-type]
    assert (done.best_loss, done.best_step) == (0.5, done.step)
    assert (done.step, done.epoch, "valid/averaged_loss", 0.5) in done.history
    assert [value for _, _, name, value in done.history if name == "valid/loss"] == valid[:-1]


def test_buffers_are_averaged_and_only_needed_weights_kept(tmp_path: Path) -> None:
    for epoch in range(1, 6):
        averaging.save_epoch(
            tmp_path,
            epoch,
            3,
            {"mean": torch.full((2,), float(epoch)), "batches": torch.tensor(10 * epoch)},
        )
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"epoch_{epoch}.safetensors" for epoch in (3, 4, 5)
    ]
    made = averaging.mean(tmp_path, 5, 3)
    assert torch.equal(made["mean"], torch.tensor([4.0, 4.0]))
    assert torch.equal(made["batches"], torch.tensor(40))


def test_accumulated_batches_give_the_gradient_of_one_large_batch(tmp_path: Path) -> None:
    model, task = case("translation")
    trained = loop.Loop(
        model, task, optim_config(), training_config(), seed=1, work=tmp_path, log=lambda *_: None
    )
    model.eval()  # no dropout
    # of 1, 8 and 5 sentences: the mean of their means is another
    batches = np.split(np.arange(14), [1, 9])
    found = []
    for planned in (batches, [np.concatenate(batches)]):
        model.zero_grad()
        nats, tokens = trained.gradient(planned)
        found.append(
            (
                nats,
                tokens,
                {name: parameter.grad.clone() for name, parameter in model.named_parameters()},
            )
        )
    (nats, tokens, accumulated), (large_nats, large_tokens, large) = found
    assert (nats, tokens) == (pytest.approx(large_nats, rel=1e-5), large_tokens)
    for name, gradient in large.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-4, atol=1e-6)


def test_an_epoch_has_a_step_for_each_group_of_batches_and_one_for_the_rest(tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    trained = trainer("translation", tmp_path, accumulate=3, max_epochs=2)
    batches = [len(trained.task.plan(epoch)) for epoch in range(2)]
    done = trained.run(lambda p, steps: ticks.append((p.batch, steps)))
    assert batches[0] % 3
    assert done.step == sum(math.ceil(count / 3) for count in batches)
    assert ticks[0] == (3, math.ceil(batches[0] / 3))
    assert batches[0] in [batch for batch, _ in ticks]


def test_a_loss_that_is_no_number_stops_with_step_rate_and_rows(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"loss of nan .* at step 1, learning rate 0\.00333.*The batch was row 0"
    ):
        fixed(Fixed([1.0], train=math.nan), tmp_path).run(lambda *_: None)


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    trained = fixed(Fixed([1.0] * 9, train=1e6), tmp_path)
    trained.optimizer = torch.optim.SGD(trained.model.parameters(), lr=1.0)
    before = trained.model.weight.detach().clone()  # type: ignore[operator, union-attr]
    trained.step([0], 0.0)
    moved = (trained.model.weight.detach() - before).norm()  # type: ignore[operator, union-attr]
    rate = optim.rate(trained.optim_config, 1, 0.0, 3)
    assert float(moved) == pytest.approx(rate, rel=1e-4)


def test_log_matches_history(tmp_path: Path) -> None:
    heard: list[tuple[dict[str, float], int]] = []
    done = trainer(
        "language_model", tmp_path, lambda metrics, step: heard.append((metrics, step))
    ).run(lambda *_: None)
    flat = [(step, name, value) for metrics, step in heard for name, value in metrics.items()]
    assert flat == [(step, name, value) for step, _, name, value in done.history]


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path) -> None:
    model, _ = case("language_model")
    facts = {
        "run": {"family": "recurrent_lm", "model": LM | {"hidden": 13}},
        "sizes": {"source": 10, "target": 10, "shared": True},
    }
    checkpoint.write_model(tmp_path, model, facts)
    with pytest.raises(
        UserError,
        match=r"model.safetensors: cells.kernel.bias_hh_l0: got \(48,\); expected \(52,\)",
    ):
        checkpoint.load_model(tmp_path, CPU)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="expected weights in safetensors form"):
        checkpoint.load_model(tmp_path, CPU)


def test_saved_model_loads_with_its_weights(tmp_path: Path) -> None:
    model, _ = case("translation")
    facts = {
        "run": {"family": "transformer", "model": TRANSLATOR},
        "sizes": dataclasses.asdict(Sizes(10, 10, True)),
    }
    checkpoint.write_model(tmp_path, model, facts)
    again = checkpoint.load_model(tmp_path, CPU)
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    model, _ = case("translation")
    facts = {
        "run": {"family": "transformer", "model": TRANSLATOR},
        "sizes": dataclasses.asdict(Sizes(10, 10, True)),
    }
    checkpoint.write_model(tmp_path, model, facts)
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="expected"):
        checkpoint.load_model(tmp_path, CPU)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99", "mps:1"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"compute\.device: got {name}; expected"):
        devices.choose(name, "compute.device")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.0}, "learning_rate: got 0.0; expected above 0"),
        ({"betas": [0.9]}, "betas: got"),
        ({"weight_decay": -0.1}, r"weight_decay: got -0\.1; expected 0 or more"),
        ({"clip_norm": -1.0}, r"clip_norm: got -1\.0"),
        ({"name": "momentum", "momentum": 1.0}, r"momentum: got 1\.0; expected between 0 and 1"),
        ({"name": "rmsprop", "smoothing": 1.0}, r"smoothing: got 1\.0; expected from 0 to below 1"),
        ({"name": "adadelta", "rho": -0.1}, r"rho: got -0\.1; expected from 0 to below 1"),
        (
            {"schedule": {"name": "constant", "warmup_steps": -1}},
            r"schedule\.warmup_steps: got -1; expected 0 or more",
        ),
        (
            {"schedule": {"name": "inverse_square_root", "warmup_steps": 0}},
            r"schedule\.warmup_steps: got 0; expected at",
        ),
        (
            {"schedule": {"name": "step", "warmup_steps": 0, "every": 0, "factor": 0.5}},
            r"schedule\.every: got 0",
        ),
        (
            {"schedule": {"name": "step", "warmup_steps": 0, "every": 1, "factor": 1.5}},
            r"schedule\.factor: got 1\.5",
        ),
    ],
)
def test_an_optim_block_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"^optim\.{said}"):
        optim_config(**change)
