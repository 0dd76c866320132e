"""The built-in pictures: their rule by another program, what half a picture says, and
scikit-learn's digits."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.core.images import decode_png
from pipeline.grammars import digits, toy_pictures
from pipeline.grammars.grammar import Config

SIZES = {"train": 300, "valid": 40, "test": 60}


def written(folder: Path, grammar, seed: int = 1, **sizes: int) -> dict[str, list[dict]]:
    folder.mkdir()
    grammar.write(folder, Config(seed=seed, sizes=sizes or SIZES))
    return {
        file.stem: tables.read(file, tables.IMAGES).to_pylist()
        for file in sorted(folder.glob("*.parquet"))
    }


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, str, str]]:
    random = Random(1)
    return [toy_pictures.draw(random) for _ in range(3000)]


BOX = [(0, x) for x in range(5)] + [(4, x) for x in range(5)]
BOX += [(y, 0) for y in range(1, 4)] + [(y, 4) for y in range(1, 4)]
CROSS = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (0, 4), (1, 3), (3, 1), (4, 0)]


def seen(half_YX: np.ndarray) -> str:
    """The shape whose pixels, somewhere, all have one level that no background has."""
    found = set()
    for name, places in (("box", BOX), ("cross", CROSS)):
        for y in range(12):
            for x in range(4):
                levels = {int(half_YX[y + dy, x + dx]) for dy, dx in places}
                if len(levels) == 1 and levels.pop() >= 128:
                    found.add(name)
    [name] = found
    return name


def test_the_label_by_the_rule_is_what_another_program_sees(drawn) -> None:
    for pixels_YX, _, true_label in drawn[:500]:
        left, right = seen(pixels_YX[:, :8]), seen(pixels_YX[:, 8:])
        assert true_label == ("same" if left == right else f"{left}_left")


def test_one_label_in_twenty_is_another_one(drawn) -> None:
    wrong = Counter(true for _, label, true in drawn if label != true)
    assert 0.04 < wrong.total() / len(drawn) < 0.06
    assert wrong.keys() == set(toy_pictures.LABELS)


def test_half_a_picture_says_no_more_than_a_constant(drawn) -> None:
    """Given the shape of either half, no label is more frequent than `same` is anyway."""
    share = sum(true == "same" for _, _, true in drawn) / len(drawn)
    assert share == pytest.approx(0.5, abs=0.03)
    for half in (np.s_[:, :8], np.s_[:, 8:]):
        counts: dict[str, Counter[str]] = {"box": Counter(), "cross": Counter()}
        for pixels_YX, _, true in drawn[:1000]:
            counts[seen(pixels_YX[half])][true] += 1
        best = sum(max(of_kind.values()) for of_kind in counts.values())
        assert best / 1000 == pytest.approx(0.5, abs=0.05)


def test_the_limit_is_the_rules_accuracy_on_the_rows(tmp_path: Path) -> None:
    rows = written(tmp_path / "raw", toy_pictures)
    limits = json.loads((tmp_path / "raw/limits.json").read_text())
    assert {split: len(part) for split, part in rows.items()} == SIZES
    for split, part in rows.items():
        right = 0
        for row in part:
            pixels_YX = decode_png(row["image"], split, (16, 16))
            left, other = seen(pixels_YX[:, :8]), seen(pixels_YX[:, 8:])
            right += row["label"] == ("same" if left == other else f"{left}_left")
        assert limits[split]["accuracy"] == pytest.approx(100 * right / len(part))


def test_no_picture_is_drawn_twice(tmp_path: Path) -> None:
    rows = written(tmp_path / "raw", toy_pictures)
    images = [row["image"] for part in rows.values() for row in part]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("grammar", [toy_pictures, digits])
def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(
    tmp_path: Path, grammar
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        written(tmp_path / name, grammar, seed)
    for split in SIZES:
        first, again, other = (
            (tmp_path / name / f"{split}.parquet").read_bytes() for name in "abc"
        )
        assert first == again != other


def test_the_digits_are_scikit_learns_each_once(tmp_path: Path) -> None:
    rows = written(tmp_path / "raw", digits, train=1000, valid=300, test=497)
    found = Counter(
        (row["label"], decode_png(row["image"], "x", (8, 8)).tobytes())
        for part in rows.values()
        for row in part
    )
    own = load_digits()
    pixels_NYX = np.round(own.images / 16 * 255).astype(np.uint8)
    assert found == Counter(
        (str(label), pixels.tobytes()) for label, pixels in zip(own.target, pixels_NYX, strict=True)
    )
    assert not (tmp_path / "raw/limits.json").exists()


def test_more_digits_than_there_are_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        written(tmp_path / "raw", digits, train=1797, test=1)
    assert (
        str(error.value)
        == "sizes: got 1798 rows in all; expected at most 1797, as there are digits."
    )
