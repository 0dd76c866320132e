"""Sparse gradients of embedding tables: which optimisers support them, and their norm.

A batch touches few rows of such a table; a sparse gradient holds only these."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.core.errors import refuse

_SUPPORTED = (torch.optim.SGD, torch.optim.Adagrad)


def check(model: nn.Module, optimizer: torch.optim.Optimizer, processes: int) -> None:
    """Refuse optimisers and settings that cannot train a model with sparse gradients.

    Most optimisers move every row at every step, touched by the batch or not.
    """
    if not any(isinstance(part, nn.Embedding) and part.sparse for part in model.modules()):
        return

    if not isinstance(optimizer, _SUPPORTED):
        names = " or ".join(kind.__name__.lower() for kind in _SUPPORTED)
        raise refuse(
            "optim.name",
            type(optimizer).__name__.lower(),
            f"{names}, as this model's gradients are sparse",
        )
    if processes > 1:
        raise refuse("compute.processes", processes, "1, as this model's gradients are sparse")

    # Off is torch's default too, but torch warns unless it is set.
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    for key in ("weight_decay", "momentum"):
        if any(group.get(key) for group in optimizer.param_groups):
            raise refuse(
                f"optim.{key}",
                optimizer.param_groups[0][key],
                "0, as this model's gradients are sparse",
            )


def clip(parameters: Iterable[nn.Parameter], most: float | None) -> float:
    """Clip the gradient norm to `most` (None: do not clip); return the norm before (d2l section
    9.5.3).

    Equals torch's `clip_grad_norm_` to the bit, but also takes sparse gradients, whose repeated
    rows are summed."""
    gradients = [_values(parameter) for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)

    # The constant keeps a norm of zero from dividing by zero; torch adds the same.
    if most is not None:
        factor = torch.clamp(most / (norm + 1e-6), max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
    return float(norm)


def _values(parameter: nn.Parameter) -> Tensor:
    """The entries of a parameter's gradient; a sparse gradient is coalesced in place."""
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter.grad
    # Sum the entries of a repeated row, so that its norm is that of the dense gradient.
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()
