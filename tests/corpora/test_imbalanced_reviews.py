"""Reviews with classes of different size: shares, limits, and bad shares."""

import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score

from pipeline.core.errors import UserError
from pipeline.download import source
from pipeline.grammars import toy_imbalanced_reviews as grammar
from pipeline.grammars import toy_reviews


def config(**changes: Any) -> grammar.Config:
    sizes = {"train": 1500, "valid": 800, "test": 800}
    values = {"seed": 1, "sizes": sizes, "positive": 0.1, "flipped": 0.02} | changes
    return grammar.Config(**values)


def files(folder: Path, split: str) -> dict[str, list[str]]:
    return {
        label: (folder / f"{split}.{label}").read_text().splitlines()
        for label in ("positive", "negative")
    }


def test_every_split_has_the_share_of_positive_reviews(tmp_path: Path) -> None:
    grammar.write(tmp_path, config())
    share = 0.1 * 0.98 + 0.9 * 0.02  # one label in fifty is flipped
    for split, rows in config().sizes.items():
        texts = files(tmp_path, split)
        assert len(texts["positive"]) + len(texts["negative"]) == rows
        allowed = 4 * (share * (1 - share) / rows) ** 0.5
        assert len(texts["positive"]) / rows == pytest.approx(share, abs=allowed)


def test_limits_are_the_rules_scores(tmp_path: Path) -> None:
    grammar.write(tmp_path, config(flipped=0.1))
    limits = json.loads((tmp_path / "limits.json").read_text())
    from test_reviews import meaning  # a reader that shares no code with the grammar

    for split in config().sizes:
        pairs = [
            (label, meaning(text))
            for label, texts in files(tmp_path, split).items()
            for text in texts
        ]
        labels, rule = zip(*pairs, strict=True)
        right = sum(label == meant for label, meant in pairs) / len(pairs)
        assert limits[split]["accuracy"] == pytest.approx(100 * right)
        assert limits[split]["f1"] == pytest.approx(100 * f1_score(labels, rule, average="macro"))


def test_half_of_positive_reviews_gives_those_of_toy_reviews() -> None:
    from itertools import islice
    from random import Random

    plain = list(islice(toy_reviews.reviews("test", Random(3)), 50))
    assert list(islice(toy_reviews.reviews("test", Random(3), 0.5, 0.05), 50)) == plain


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"positive": 0.0}, "positive: got 0.0; expected a share between 0 and 1, such as 0.1."),
        ({"positive": 1.0}, "positive: got 1.0; expected a share between 0 and 1, such as 0.1."),
        ({"flipped": 0.5}, "flipped: got 0.5; expected a share from 0 to below 0.5"),
        ({"sizes": {"train": 0}}, "sizes.train: got 0; expected at least 1 row."),
    ],
)
def test_bad_shares_are_refused_in_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        config(**changes)
    assert str(refused.value).startswith(line)


def test_a_label_without_rows_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        grammar.write(tmp_path, config(positive=0.0001, flipped=0.0, sizes={"train": 20}))
    assert str(refused.value) == (
        "sizes.train: got 20 rows without one that is positive; expected rows of every label. "
        "Raise it, or choose a share `positive` nearer to 0.5."
    )


def test_keys_of_the_grammar_are_required_and_unknown_to_others() -> None:
    sizes = {"train": 3, "valid": 3, "test": 3}
    block = {"grammar": "toy_imbalanced_reviews", "seed": 1, "sizes": sizes, "positive": 0.2}
    with pytest.raises(UserError, match=r"^b\.flipped: "):
        source.load_grammar(block, "b")
    block = {"grammar": "toy_reviews", "seed": 1, "sizes": sizes, "positive": 0.2}
    with pytest.raises(UserError, match=r"^b\.positive: "):
        source.load_grammar(block, "b")
