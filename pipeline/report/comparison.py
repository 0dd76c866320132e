"""The comparison as a document: for each task and corpus the ranking, the paired tests, the
settings, outputs and figures."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.params import Evaluation
from pipeline.report import (
    cells,
    corpora,
    findings,
    folds,
    hyperparameters,
    looks,
    overview,
    quality,
    samples,
    setting_tests,
)
from pipeline.report import figures as figures_of_page
from pipeline.report.cross_validation import CrossValidation
from pipeline.report.document import (
    Block,
    Details,
    Figure,
    Heading,
    MarkdownOnly,
    Paragraph,
    Table,
    Verbatim,
    fold,
)
from pipeline.report.looks import Look
from pipeline.report.results import (
    LEVEL,
    TEST,
    VALID,
    Group,
    ranking_split,
    split_name,
)
from pipeline.scoring.tasks import Column

_ATTENTION = (
    "Attention weights of the samples: input words across, output words downwards; darker is "
    "larger. The large map of a model with several heads is the mean over the heads of the last "
    "layer. The small maps show these heads one by one."
)


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders with the outputs of earlier stages."""

    plots: Path
    scores: Path
    predictions: Path
    corpora: Path


def document(
    groups: Sequence[Group],
    evaluation: Evaluation,
    folders: Folders,
    figures: Mapping[str, list[Figure]],
    cross_validations: Sequence[CrossValidation],
    unranked: Sequence[tuple[str, str]],
    all_looks: Collection[Look],
    looks_file: Path,
) -> list[Block]:
    """All blocks of the report: the overview, a section for each cross-validated text and each
    group, and the corpora.

    `figures` are those of each `Group.key`. `unranked` are tasks and corpora without a section.
    `all_looks` are those in `looks_file`."""
    blocks: list[Block] = [
        Heading(1, "seqline: comparison"),
        Paragraph(_extent(groups, evaluation)),
        *looks.not_looked(evaluation, unranked),
        *overview.overview(groups, cross_validations),
        Details("How to read the scores", (Paragraph(_how_to_read(evaluation)),)),
    ]
    for cross_validation in cross_validations:
        blocks += _over_folds(cross_validation)
    for group in groups:
        count = looks.count(group, all_looks, looks_file)
        blocks.append(Heading(2, overview.section_title(group)))
        blocks += _group(group, evaluation, folders, count)
        blocks += _figures(group, figures.get(group.key, []))
        if not group.fold_of:
            blocks += fold(_signatures(group))
    return [*blocks, *corpora.section(groups, folders.corpora)]


def _group(group: Group, evaluation: Evaluation, folders: Folders, count: Paragraph) -> list[Block]:
    """The section of a group: the result first, then charts, outputs, details and settings."""
    explanation = [] if group.fold_of else setting_tests.detectable_difference(group)
    explanation.append(count)
    if not group.fold_of:
        explanation.append(Paragraph(group.task.meaning))
    notes = [Paragraph(f"Note: {note}.", warning=True) for note in group.notes]
    blocks: list[Block] = [
        *(folds.scores_of_fold(group) if group.fold_of else _outcome(group, evaluation)),
        *notes,
        *quality.quality(group, folders.plots),
        *fold(samples.samples(group, folders.predictions)),
        *figures_of_page.details(group, folders.plots, folders.scores, folders.predictions),
        Details("What the scores mean", tuple(explanation)),
    ]
    for part in (
        _runs(group),
        _further_scores(group),
        _label_scores(group),
        setting_tests.setting_tests(group),
        setting_tests.model_tests(group),
    ):
        blocks += fold(part)
    if not group.fold_of:
        heading = Heading(3, f"Settings ({group.corpus})")
        blocks += fold([heading, *hyperparameters.table(group.settings)])
    return blocks


def _outcome(group: Group, evaluation: Evaluation) -> list[Block]:
    """The ranking of the settings, and what their tests say."""
    return [
        Paragraph(findings.outcome(group)),
        *findings.unbeaten_baseline(group),
        _ranking(group, evaluation),
    ]


def _over_folds(cross_validation: CrossValidation) -> list[Block]:
    """The section of a cross-validated text, with all that is the same for its folds."""
    blocks: list[Block] = [Heading(2, folds.title(cross_validation))]
    if cross_validation.settings:
        blocks += [
            Paragraph(folds.findings(cross_validation)),
            *findings.unbeaten_baseline(cross_validation),
            folds.ranking(cross_validation),
            *setting_tests.detectable_difference(cross_validation),
        ]
    blocks += folds.notes(cross_validation)
    blocks.append(
        Details(
            "What the scores mean",
            (folds.explanation(cross_validation), Paragraph(cross_validation.task.meaning)),
        )
    )
    if cross_validation.settings:
        blocks += fold(folds.scores_by_fold(cross_validation))
    blocks += fold(folds.tests(cross_validation))
    heading = Heading(3, f"Settings ({cross_validation.text.name})")
    blocks += fold([heading, *hyperparameters.table(cross_validation.on_first_folds)])
    blocks += fold(_signatures(cross_validation.groups[0]))
    return blocks


def _extent(groups: Sequence[Group], evaluation: Evaluation) -> str:
    """What is compared, in a sentence."""
    runs = sum(len(group.results) for group in groups)
    settings = len({setting.name for group in groups for setting in group.settings})
    names = len({group.corpus for group in groups})
    split = split_name(ranking_split(evaluation))
    return (
        f"{runs} run{'s' * (runs != 1)} of {settings} setting{'s' * (settings != 1)} on {names} "
        f"{'corpora' if names != 1 else 'corpus'}. Scores without another name are those of the "
        f"{split} split."
    )


def _how_to_read(evaluation: Evaluation) -> str:
    split = split_name(ranking_split(evaluation))
    return (
        "A setting is a model with its hyperparameters. It is trained with several seeds, and its "
        f"score is the mean over them on the {split} split, ± the standard deviation over them. "
        f"The {evaluation.confidence:.0%} interval covers both the seeds and the {split} "
        "sentences: such intervals contain the expected score over all seeds and sentences in that "
        "share of cases. "
        "**better than** lists the settings that a setting beats significantly, over seeds and "
        f"sentences: a t-test at p < {LEVEL}, corrected for the number of pairs (Holm 1979), whose "
        "error rate was measured by simulation. "
        "A setting with one seed supports no such claim, unless it is cross-validated. "
        "Models that are fitted without random numbers need no further seed. Brackets behind such "
        "a score are its interval over sentences by the bootstrap, which differs a little from "
        "the symmetric interval that the tests use."
    )


def _ranking(group: Group, evaluation: Evaluation) -> Table:
    task = group.task
    scored = {split for result in group.results for split in result.scored_splits(task.main)}
    # The validation score is next to the test score; then come the further splits, by name.
    further_splits = [VALID] if VALID in scored and group.split == TEST else []
    further_splits += sorted(scored - {TEST, VALID})
    columns = _present(group, task.columns)
    interval = f"{evaluation.confidence:.0%} interval"
    if task.difference != task.main_title:
        interval += f", {task.difference}"

    rows = []
    for rank, setting in enumerate(group.settings, 1):
        row = [
            str(rank),
            f"`{setting.name}`",
            cells.mean_score(setting, f"{group.split}.{task.main}.score", task.form),
            cells.interval(setting, task.interval_decimals),
        ]
        row += [
            cells.mean_score(setting, f"{split}.{task.main}.score", task.form)
            for split in further_splits
        ]
        row += [
            _beaten(group, rank),
            f"{setting.first.metric('parameters'):,}",
            cells.seeds(setting),
            setting.first.run.family,
        ]
        row += [cells.mean_score(setting, key, form) for _, key, form in columns]
        rows.append(tuple(row))

    # What ranks comes first, where a narrow screen shows it.
    header = (
        "rank",
        "setting",
        task.main_title,
        interval,
        *(f"{task.main_title}, {split_name(split)}" for split in further_splits),
        "better than",
        "parameters",
        "seeds",
        "family",
        *(title for title, _, _ in columns),
    )
    texts = {"setting", "better than", "family"}
    numbers = tuple(title not in texts for title in header)

    # Highlight the best setting and those that it does not beat.
    return Table(header, tuple(rows), numbers, first=setting_tests.unbeaten(group))


def _beaten(group: Group, rank: int) -> str:
    """Names of the settings that the setting of this rank beats."""
    if not group.settings[rank - 1].supports_claims:
        return "no claim"
    return setting_tests.better_than(group, rank)


def _runs(group: Group) -> list[Block]:
    """The main score of every run, with the interval over test sentences alone."""
    if all(len(setting.results) == 1 for setting in group.settings):
        return []
    main = f"{group.split}.{group.task.main}"
    rows = [
        (
            f"`{result.name}`",
            str(result.run.seed),
            cells.estimate(result.metric(main), group.task.form),
        )
        for setting in group.settings
        for result in setting.results
    ]
    header = ("run", "seed", group.task.main_title)
    return [
        Heading(3, f"Runs ({group.corpus})"),
        Table(header, tuple(rows), (False, True, True)),
        Paragraph(
            f"Brackets cover the {group.split_name} sentences, for the one model that the seed "
            "gave."
        ),
    ]


def _further_scores(group: Group) -> list[Block]:
    columns = _present(group, group.task.further)
    if not columns:
        return []
    rows = [
        (f"`{s.name}`", *(cells.mean_score(s, key, form) for _, key, form in columns))
        for s in group.settings
    ]
    header = ("setting", *(title for title, _, _ in columns))
    table = Table(header, tuple(rows), (False, *[True] * len(columns)))
    return [Heading(3, f"Further scores ({group.corpus})"), table]


def _label_scores(group: Group) -> list[Block]:
    """Precision, recall and F1 of every label, where there are labels."""
    rows = []
    for setting in group.settings:
        labels = setting.first.metric(f"{group.split}.labels") or {}
        for label, scores in labels.items():
            # A label may hold a dot, so that it cannot be part of a dotted key.
            of_seeds = [result.metric(f"{group.split}.labels")[label] for result in setting.results]
            row = [
                cells.mean_of([scores[key] for scores in of_seeds], "{:.2f}")
                for key in ("precision", "recall", "f1")
            ]
            rows.append((f"`{setting.name}`", Verbatim(label), f"{scores['rows']:,}", *row))
    if not rows:
        return []
    header = ("setting", "label", "rows", "precision, %", "recall, %", "F1, %")
    table = Table(header, tuple(rows), (False, False, True, True, True, True))
    return [Heading(3, f"Scores by label ({group.corpus})"), table]


def _present(group: Group, columns: Sequence[Column]) -> list[Column]:
    """Columns in which some run has a value; their keys start at the top of the metrics."""
    full = [(title, f"{group.split}.{key}", form) for title, key, form in columns]
    return [
        (title, key, form)
        for title, key, form in full
        if any(result.metric(key) is not None for result in group.results)
    ]


def _figures(group: Group, figures: Sequence[Figure]) -> list[Block]:
    """Links to the PNG files: large figures, then the attention maps."""
    if not figures:
        return []
    maps = [figure for figure in figures if figure.is_map]
    blocks: list[Block] = [
        Heading(3, f"Figures ({group.corpus})"),
        *(figure for figure in figures if not figure.is_map),
    ]
    return [MarkdownOnly((*blocks, Paragraph(_ATTENTION), *maps) if maps else tuple(blocks))]


def _signatures(group: Group) -> list[Block]:
    """sacreBLEU's signatures, which are the same for every run."""
    scores = group.results[0].metric(group.split) or {}
    rows = tuple(
        (name, f"`{value['signature']}`")
        for name, value in scores.items()
        if isinstance(value, dict) and value.get("signature")
    )
    if not rows:
        return []
    return [
        Heading(3, f"Signatures ({group.corpus})"),
        Table(("score", "sacreBLEU's signature"), rows, (False, False)),
    ]
