"""Compare the runs named in params.yaml: a Markdown table, a page that needs nothing else, and
figures."""

import argparse
from pathlib import Path

import pyarrow.compute as pc

from pipeline.core import params, tables
from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.errors import exit_with
from pipeline.report import (
    attention,
    comparison,
    confusion,
    curves,
    document,
    repeats,
    results,
    vectors,
)
from pipeline.report.document import Figure
from pipeline.report.style import upper_first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="folder with <run>.json")
    parser.add_argument("--plots", type=Path, required=True, help="folder with <run>/*.csv")
    parser.add_argument(
        "--scores", type=Path, required=True, help="folder with <run>/<split>.parquet"
    )
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder with <run>/samples.parquet"
    )
    parser.add_argument("--comparison", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--page", type=Path, required=True, help="HTML file to write")
    parser.add_argument("--figures", type=Path, required=True, help="folder for the figures")
    arguments = parser.parse_args()

    found = results.groups(arguments.params, arguments.metrics, arguments.scores)
    with atomic_dir(arguments.figures) as folder:
        drawn = {group.key: _figures(group, arguments, folder) for group in found}
    figures = {
        key: [Figure(arguments.figures / file, text, small) for file, text, small in made]
        for key, made in drawn.items()
    }
    evaluation, crossed = (
        params.evaluation(arguments.params),
        repeats.several_folds(found, arguments.params),
    )
    blocks = comparison.document(found, evaluation, arguments.predictions, figures, crossed)
    with atomic_file(arguments.comparison) as file:
        file.write_text(document.markdown(blocks, arguments.comparison.parent), encoding="utf-8")
    with atomic_file(arguments.page) as file:
        file.write_text(document.page(blocks, "Comparison of sequence models"), encoding="utf-8")


def _figures(
    group: results.Group, places: argparse.Namespace, folder: Path
) -> list[tuple[str, str, bool]]:
    """Draw a group's figures into `folder`: file name, what it shows, and whether it is small."""
    made = []
    plots, predictions = places.plots, places.predictions
    where = f"{group.task.title.lower()} on {group.corpus}"
    for draw, name, text in (
        (
            curves.learning_curves,
            f"learning_curves_{group.key}.png",
            f"Learning curves of the {where}",
        ),
        (
            curves.by_length,
            f"by_length_{group.key}.png",
            upper_first(f"{group.task.main_name} by length, {where}"),
        ),
        (
            confusion.matrices,
            f"confusion_{group.key}.png",
            f"What each label is taken for by the {where}",
        ),
    ):
        if draw(group, plots, folder / name):
            made.append((name, text, False))
    for result in group.results:
        path = predictions / result.name / "attention.parquet"
        if path.exists():
            table = tables.read(path, tables.ATTENTION)
            for row in sorted(pc.unique(table["row"]).to_pylist()):
                name = f"{result.name}/attention_{row + 1}.png"
                (folder / result.name).mkdir(exist_ok=True)
                attention.heatmap(table, row, folder / name)
                made.append((name, f"Attention of {result.name}, sample {row + 1}", True))
        if (predictions / result.name / "vectors.parquet").exists():
            name = f"{result.name}/vectors.png"
            (folder / result.name).mkdir(exist_ok=True)
            found = tables.read(predictions / result.name / "vectors.parquet", tables.VECTORS)
            vectors.picture(
                found, _classes(places.scores / result.name / "test.parquet"), folder / name
            )
            made.append(
                (
                    name,
                    (
                        f"Vectors of {result.name}: the plane in which they differ most, coloured "
                        "by class"
                    ),
                    False,
                )
            )
    return made


def _classes(scores: Path) -> dict[str, str]:
    """The class of each word that one of the judges of word vectors has put in one."""
    table = tables.read(scores, tables.SCORES_VECTORS).filter(pc.field("judge") == "classes")
    return dict(zip(table["item"].to_pylist(), table["section"].to_pylist(), strict=True))


if __name__ == "__main__":
    exit_with(main)
