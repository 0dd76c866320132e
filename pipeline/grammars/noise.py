"""Numbers with normal noise of a known deviation, for the grammars of series and curves."""

import math
from collections.abc import Iterable
from pathlib import Path
from random import Random


def standard_normal(random: Random) -> float:
    """Draw from the normal distribution of mean 0 and deviation 1 (Box and Muller 1958)."""
    radius = math.sqrt(-2 * math.log(1 - random.random()))
    return radius * math.cos(2 * math.pi * random.random())


def write_split(
    path: Path, rows: Iterable[tuple[tuple[float, ...], float]], deviation: float, random: Random
) -> dict[str, float]:
    """Write a line for each row: its inputs, and its value with noise of the given deviation.

    Returns the limit: the root mean squared error of who knows all values without noise."""
    squares = []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for inputs, value in rows:
            noise = deviation * standard_normal(random)
            squares.append(noise**2)
            # Six decimals do not depend on the machine's libm.
            file.write(" ".join(f"{number:.6f}" for number in (*inputs, value + noise)) + "\n")
    return {"rmse": math.sqrt(math.fsum(squares) / len(squares))}
