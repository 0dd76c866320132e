"""Updates of a character language model: our training loop against the book's, on one core.

    python -m benchmarks.book_speed [--cells rnn,gru,lstm] [--hidden 32] [--updates N] [--rounds N]

Both train the model of d2l section 9.5 (one-hot inputs, one recurrent layer, an output layer) with
the objective of sections 9.3 and 9.5: batches of 1,024 windows of 32 characters, of 28 characters
in all, SGD with rate 1, gradients clipped to norm 1. The book's loop is written with torch alone,
as section 9.6 has it, and runs in a process of its own without our settings of torch. Rounds
alternate between the two processes; the first one is not counted. Prints the median of the ratios
of their times, ours over the book's, with the smallest and the largest. Ours also plans its
batches, seeds each one, and checks that loss and gradient are finite."""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

CELLS = ("rnn", "gru", "lstm")
CHARACTERS = 28
BATCH, STEPS = 1024, 32
ROWS, LENGTH = 4000, 60  # of the training text, which is random
RATE = 1.0
CLIP = 1.0

Update = Callable[[], object]


def book_updates(cell: str, hidden: int) -> Update:
    """The book's loop: an update of `torch.nn`'s layers on the next batch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(1)
    torch.manual_seed(1)
    kernels: dict[str, type[nn.Module]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    kernel = kernels[cell](CHARACTERS, hidden)
    output = nn.Linear(hidden, CHARACTERS)
    parameters = [*kernel.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    text_N = torch.randint(CHARACTERS, (ROWS * LENGTH,))
    windows_NT = text_N.unfold(0, STEPS + 1, 1)

    def update() -> float:
        start_B = torch.randint(len(windows_NT), (BATCH,))
        window_BT = windows_NT[start_B]
        x_TBV = F.one_hot(window_BT[:, :-1].T, CHARACTERS).float()
        hidden_TBH, _ = kernel(x_TBV)
        logits_BTV = output(hidden_TBH).swapaxes(0, 1)
        loss = F.cross_entropy(logits_BTV.reshape(-1, CHARACTERS), window_BT[:, 1:].reshape(-1))

        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return float(loss.detach())

    return update


def our_updates(cell: str, hidden: int) -> Update:
    """Our loop: `Loop.step` on the next batch of the plan."""
    import numpy as np
    import pyarrow as pa
    import torch

    from pipeline.contracts import EOS, Sizes
    from pipeline.tasks import language_model
    from pipeline.training import checkpoint, devices, optim
    from pipeline.training.loop import Config, Loop

    devices.reuse_freed_memory()
    devices.prepare(1)
    devices.seed(1, torch.device("cpu"))
    rng = np.random.default_rng(1)
    ids = rng.integers(EOS + 1, CHARACTERS, (ROWS, LENGTH), dtype=np.int32)
    table = pa.table({"ids": pa.array(ids.tolist(), pa.list_(pa.int32()))})

    block = {
        "cell": cell,
        "embedding": 0,
        "hidden": hidden,
        "layers": 1,
        "dropout": 0.0,
        "tied": False,
        "implementation": "fused",
    }
    model = checkpoint.build("recurrent_lm", block, Sizes(CHARACTERS, CHARACTERS, True), "model")
    objective = language_model.Config(
        batch_size=BATCH,
        steps=STEPS,
        sampling="random",
        max_train_tokens=None,
        softmax_words=None,
    )
    task = language_model.Task(table, table, objective, 1, torch.device("cpu"))
    optimizer = {"name": "sgd", "learning_rate": RATE, "weight_decay": 0.0, "clip_norm": CLIP}
    loop = Loop(
        model,
        task,
        optim.load(optimizer | {"schedule": {"name": "constant", "warmup_steps": 0}}, "optim"),
        Config(
            max_epochs=1, patience=None, accumulate=1, average=None, precision="float32", threads=1
        ),
        seed=1,
        work=Path(tempfile.mkdtemp()),
        log=lambda metrics, step: None,
    )
    model.train()
    plans = (batch for epoch in range(10**6) for batch in task.plan(epoch))
    return lambda: loop.step([next(plans)], 0.0)


def serve(make: Callable[[str, int], Update], cell: str, hidden: int, pipe: Connection) -> None:
    """Make the number of updates that each message asks for, and answer with their seconds."""
    update = make(cell, hidden)
    while (updates := pipe.recv()) > 0:
        start = time.perf_counter()
        for _ in range(updates):
            update()
        pipe.send(time.perf_counter() - start)


def seconds(pipe: Connection, updates: int) -> float:
    """Seconds of as many updates in the process at the other end."""
    pipe.send(updates)
    elapsed: float = pipe.recv()
    return elapsed


def main() -> None:
    from benchmarks.rounds import median_ms, ratio_summary, time_alternating

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=15)
    a = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    for cell in a.cells.split(","):
        pipes = {}
        for name, make in {"book": book_updates, "ours": our_updates}.items():
            pipes[name], end = context.Pipe()
            process = context.Process(target=serve, args=(make, cell, a.hidden, end), daemon=True)
            process.start()
            end.close()  # so that the end of the process ends the wait for it

        ways = {name: partial(seconds, pipe, a.updates) for name, pipe in pipes.items()}
        book, ours = time_alternating(ways, a.rounds).values()
        for pipe in pipes.values():
            pipe.send(0)
        print(
            f"{cell}, {a.hidden} hidden: the book's update {median_ms(book) / a.updates:.2f} ms, "
            f"ours {ratio_summary(ours, book)} of it"
        )


if __name__ == "__main__":
    main()
