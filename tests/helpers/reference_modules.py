"""Our models beside those of other libraries: which weights are the same, and whether their
gradients are."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Same(NamedTuple):
    """Parameters of another's model, and those of ours that are the same numbers in the same
    order."""

    theirs: list[Tensor]
    ours: list[Tensor]


def module(theirs: nn.Module, ours: nn.Module) -> Iterator[Same]:
    """Of two layers of one kind."""
    for their, our in zip(theirs.parameters(), ours.parameters(), strict=True):
        yield Same([their], [our])


def give(pairs: list[Same], theirs: nn.Module, ours: nn.Module, *apart: Tensor) -> None:
    """Give the other model our weights; both must be covered to the last parameter, but for those
    `apart`."""
    for model, named in (
        (theirs, [p for pair in pairs for p in pair.theirs]),
        (ours, [p for pair in pairs for p in pair.ours]),
    ):
        learned = {id(p) for p in model.parameters() if p.requires_grad} - {id(p) for p in apart}
        assert {id(p) for p in named} == learned
        assert len(named) == len(learned)
    with torch.no_grad():
        for pair in pairs:
            for part, value in zip(
                pair.theirs, torch.cat(pair.ours).split([len(p) for p in pair.theirs]), strict=True
            ):
                part.copy_(value)


def assert_same_gradients(pairs: list[Same]) -> None:
    for pair in pairs:
        their, our = (torch.cat([part.grad for part in parts]) for parts in pair)  # type: ignore[misc]
        assert our.any()
        torch.testing.assert_close(our, their)


def weighed(*outputs: Tensor) -> Tensor:
    """A number that depends on every part of the outputs, each in its own measure."""
    generator = torch.Generator().manual_seed(2)
    return torch.stack(
        [(out * torch.randn(out.shape, generator=generator)).sum() for out in outputs]
    ).sum()
