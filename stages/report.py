"""Compare the settings of params.yaml: a Markdown table, a self-contained HTML page, figures, a
summary for `dvc metrics`, tables for `dvc plots`, and the count of looks at test sets."""

import argparse
from pathlib import Path

import pyarrow.compute as pc

from pipeline.core import params, tables
from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.errors import exit_with
from pipeline.report import (
    attention,
    charts,
    comparison,
    confusion,
    curves,
    document,
    figures,
    looks,
    page,
    results,
    summary,
    vectors,
)
from pipeline.report.cross_validation import cross_validations
from pipeline.report.document import Figure
from pipeline.report.style import upper_first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, help_text in (
        ("--params", None),
        ("--metrics", "folder with <run>.json"),
        ("--plots", "folder with <run>/*.csv"),
        ("--scores", "folder with <run>/<split>.parquet"),
        ("--predictions", "folder with <run>/samples.parquet"),
        ("--corpora", "folder with <corpus>.json"),
        ("--summary", "JSON file to write with the score of each setting"),
        ("--comparison", "Markdown file to write"),
        ("--page", "HTML file to write"),
        ("--figures", "folder for the figures"),
        ("--charts", "folder for the tables behind the charts of `dvc plots`"),
        ("--looks", "CSV file of the looks at test sets, to which those of these runs are added"),
    ):
        parser.add_argument(option, type=Path, required=True, help=help_text)
    arguments = parser.parse_args()

    groups = results.groups(arguments.params, arguments.metrics, arguments.scores)
    all_looks = looks.read(arguments.looks) | looks.of_groups(groups)
    with atomic_dir(arguments.figures) as folder:
        files = {group.key: _draw(group, arguments, folder) for group in groups}
    drawn = {
        key: [Figure(arguments.figures / file, text, is_map) for file, text, is_map in of_group]
        for key, of_group in files.items()
    }

    with atomic_dir(arguments.charts) as folder:
        charts.write(groups, arguments.plots, folder)

    evaluation = params.evaluation(arguments.params)
    over_folds = cross_validations(arguments.params, groups)
    blocks = comparison.document(
        groups,
        evaluation,
        comparison.Folders(
            arguments.plots, arguments.scores, arguments.predictions, arguments.corpora
        ),
        drawn,
        over_folds,
        results.unranked(arguments.params),
        all_looks,
        arguments.looks,
    )
    with atomic_file(arguments.looks) as file:
        file.write_text(looks.to_csv(all_looks), encoding="utf-8")
    with atomic_file(arguments.summary) as file:
        file.write_text(summary.to_json(groups, over_folds), encoding="utf-8")
    with atomic_file(arguments.comparison) as file:
        file.write_text(document.markdown(blocks, arguments.comparison.parent), encoding="utf-8")
    with atomic_file(arguments.page) as file:
        file.write_text(page.render(blocks, "Comparison of sequence models"), encoding="utf-8")


def _draw(
    group: results.Group, arguments: argparse.Namespace, folder: Path
) -> list[tuple[str, str, bool]]:
    """Draw the figures that apply to a group into `folder`.

    Returns the file name of each, its description, and whether it is a map of attention weights.
    """
    title = f"{group.task.title.lower()} on {group.corpus}"
    drawn = []

    # Figures of the group
    for draw, file, caption in (
        (
            curves.learning_curves,
            f"learning_curves_{group.key}.png",
            f"Learning curves of the {title}",
        ),
        (
            curves.by_length,
            f"by_length_{group.key}.png",
            upper_first(f"{group.task.main_name} by {group.task.divided_by}, {title}"),
        ),
        (
            confusion.matrices,
            f"confusion_{group.key}.png",
            f"Confusion matrices of the {title}",
        ),
    ):
        if draw(group, arguments.plots, folder / file):
            drawn.append((file, caption, False))

    # Figures of each setting, by its first run
    for setting in group.settings:
        result = setting.first
        predictions = arguments.predictions / result.name
        if (predictions / "attention.parquet").exists():
            table = tables.read(predictions / "attention.parquet", tables.ATTENTION)
            for row in sorted(pc.unique(table["row"]).to_pylist()):
                file = f"{result.name}/attention_{row + 1}.png"
                (folder / result.name).mkdir(exist_ok=True)
                attention.heatmap(table, row, folder / file)
                drawn.append((file, f"Attention of {result.name}, sample {row + 1}", True))

        if (predictions / "vectors.parquet").exists():
            (folder / result.name).mkdir(exist_ok=True)
            table = tables.read(predictions / "vectors.parquet", tables.VECTORS)
            classes = figures.word_classes(arguments.scores / result.name / "test.parquet")
            file = f"{result.name}/vectors.png"
            vectors.picture(table, classes, folder / file)
            caption = (
                f"Vectors of {result.name}: the plane in which they differ most, coloured by class"
            )
            drawn.append((file, caption, False))
    return drawn


if __name__ == "__main__":
    exit_with(main)
