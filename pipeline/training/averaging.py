"""The mean of the weights of a run's last epochs (Vaswani et al. 2017, section 6.1, average a run's
last checkpoints)."""

from pathlib import Path

from torch import Tensor

from pipeline.training import saved


def save_epoch(work: Path, epoch: int, last: int, tensors: dict[str, Tensor]) -> None:
    """Keep an epoch's weights in the work folder, and of those before only what a mean over the
    `last` ones needs."""
    saved.save(_file(work, epoch), tensors, {})
    _file(work, epoch - last).unlink(missing_ok=True)


def mean(work: Path, epoch: int, last: int) -> dict[str, Tensor]:
    """The mean of what was kept of the `last` epochs up to `epoch`, or of all if there were
    fewer."""
    epochs = _epochs(epoch, last)
    total: dict[str, Tensor] = {}
    for number in epochs:
        tensors, _ = saved.load(_file(work, number))
        total = {name: tensor.double() + total.get(name, 0.0) for name, tensor in tensors.items()}
    return {name: (total[name] / len(epochs)).to(tensor.dtype) for name, tensor in tensors.items()}


def check(work: Path, epoch: int, last: int, over: bool) -> None:
    """Raise saved.Damaged unless every file up to this epoch that `mean` will need is intact.

    `over`: no epoch follows. Otherwise at least one does, and more if later epochs have files: a
    training that was killed after its last saved state may have gone further and removed files that
    it no longer needed."""
    epochs = [int(path.stem.partition("_")[2]) for path in work.glob("epoch_*.safetensors")]
    end = epoch if over else max([epoch + 1, *epochs])
    for number in _epochs(end, last):
        if number <= epoch:
            saved.load(_file(work, number))


def _epochs(epoch: int, last: int) -> range:
    return range(max(epoch - last, 0) + 1, epoch + 1)


def _file(work: Path, epoch: int) -> Path:
    return work / f"epoch_{epoch}.safetensors"
