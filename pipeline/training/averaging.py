"""Checkpoint averaging (Vaswani et al. 2017, section 6.1): the mean of the weights of the last
epochs."""

from pathlib import Path

from torch import Tensor

from pipeline.training import resume_state


def save_epoch(work: Path, epoch: int, last: int, tensors: dict[str, Tensor]) -> None:
    """Save an epoch's weights in the work folder; remove those that are not among the `last`."""
    resume_state.save(_file(work, epoch), tensors, {})
    _file(work, epoch - last).unlink(missing_ok=True)


def mean(work: Path, epoch: int, last: int) -> dict[str, Tensor]:
    """The mean of the weights of the `last` epochs up to `epoch`, or of all if there are fewer."""
    epochs = _epochs(epoch, last)
    # summed in float64; one epoch's weights are in memory at a time
    total: dict[str, Tensor] = {}
    for number in epochs:
        tensors, _ = resume_state.load(_file(work, number))
        total = {name: tensor.double() + total.get(name, 0.0) for name, tensor in tensors.items()}
    return {name: (total[name] / len(epochs)).to(tensor.dtype) for name, tensor in tensors.items()}


def check(work: Path, epoch: int, last: int, is_last: bool) -> None:
    """Raise saved.DamagedFile unless every file up to this epoch that `mean` will need is intact.

    `is_last`: no epoch follows.
    """
    # A training that is killed after its last saved state may have finished later epochs, and
    # removed the files that these no longer need.
    epochs = [int(path.stem.partition("_")[2]) for path in work.glob("epoch_*.safetensors")]
    end = epoch if is_last else max([epoch + 1, *epochs])
    for number in _epochs(end, last):
        if number <= epoch:
            resume_state.load(_file(work, number))


def _epochs(epoch: int, last: int) -> range:
    return range(max(epoch - last, 0) + 1, epoch + 1)


def _file(work: Path, epoch: int) -> Path:
    return work / f"epoch_{epoch}.safetensors"
