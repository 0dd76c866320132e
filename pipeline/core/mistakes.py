"""Several mistakes of the user, reported at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import UserError


class Mistakes:
    """Mistakes of independent parts: collected first, then raised in one UserError."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}  # each once, in their order

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a UserError of the block for later."""
        try:
            yield
        except UserError as error:
            self._lines |= dict.fromkeys(error.lines)

    def refuse(self) -> None:
        """Raise UserError with all mistakes, if there are any."""
        if self._lines:
            raise UserError(*self._lines)
