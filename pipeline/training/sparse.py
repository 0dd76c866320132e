"""Sparse gradients, of tables of which a batch touches few rows: which optimisers know them, and
their norm."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.core.errors import refuse

_KNOW = (torch.optim.SGD, torch.optim.Adagrad)


def check(model: nn.Module, optimizer: torch.optim.Optimizer, processes: int) -> None:
    """Refuse what cannot train this model: most optimisers move every row at every step, touched or
    not."""
    if not any(isinstance(part, nn.Embedding) and part.sparse for part in model.modules()):
        return
    if not isinstance(optimizer, _KNOW):
        names = " or ".join(kind.__name__.lower() for kind in _KNOW)
        raise refuse(
            "optim.name",
            type(optimizer).__name__.lower(),
            f"{names}, as this model's gradients are sparse",
        )
    if processes > 1:
        raise refuse("compute.processes", processes, "1, as this model's gradients are sparse")
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]  # said or not; unsaid, torch warns
    for key in ("weight_decay", "momentum"):
        if any(group.get(key) for group in optimizer.param_groups):
            raise refuse(
                f"optim.{key}",
                optimizer.param_groups[0][key],
                "0, as this model's gradients are sparse",
            )


def clip(parameters: Iterable[nn.Parameter], most: float | None) -> float:
    """Scale all gradients by one factor to a norm of at most `most` (null: any); returns the norm
    before.

    As torch's `clip_grad_norm_`, to the same bits, but for sparse gradients too, whose repeated
    rows are summed."""
    gradients = [_values(parameter) for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if most is not None:
        factor = torch.clamp(most / (norm + 1e-6), max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
    return float(norm)


def _values(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()
