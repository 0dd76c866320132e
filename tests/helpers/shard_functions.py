"""Functions for workers to compute: a module of their own, since a worker that is given one imports
all of it."""

import os
import signal
import time

from pipeline.core.errors import UserError


def square(number: int) -> int:
    return number * number


def whose(number: int) -> int:
    """The process that computes."""
    time.sleep(0.05)
    return os.getpid()


def refuse_seven(number: int) -> int:
    if number == 7:
        raise UserError("seven: got 7; expected another number.")
    return number


def die_on_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
