"""Sections of cross-validated settings: the comparison over folds, and the scores of each fold."""

import math
from statistics import mean, stdev

from pipeline.report import cells, setting_tests
from pipeline.report.cross_validation import CrossValidation, FoldResults
from pipeline.report.document import NONE, Block, Heading, Paragraph, Table
from pipeline.report.results import LEVEL, TEST, VALID, Group
from pipeline.report.style import upper_first
from pipeline.scoring.tasks import Column


def title(cross_validation: CrossValidation) -> str:
    """The title of the comparison over folds."""
    return f"{cross_validation.task.title}, cross-validated ({cross_validation.text.name})"


def findings(cross_validation: CrossValidation) -> str:
    """The outcome in a sentence or two."""
    best, *others = cross_validation.settings
    mean_score = _spread(best, _main(cross_validation), cross_validation.task.form)
    score = f"mean {cross_validation.task.main_name} {mean_score}"
    if not others:
        return f"`{best.name}` is the only cross-validated setting, with {score}."

    beaten = cross_validation.beaten_by(best.name, LEVEL)
    if len(beaten) == len(others):
        return (
            f"`{best.name}` is best with {score}, significantly better than every other setting "
            "over the folds."
        )
    not_beaten = ", ".join(f"`{s.name}`" for s in others if s.name not in beaten)
    return (
        f"`{best.name}` has the best score, {score}. Over the folds it is not significantly better "
        f"than {not_beaten}."
    )


def ranking(cross_validation: CrossValidation) -> Table:
    """A row for each setting, the best mean first; ± is the deviation between folds."""
    task, settings = cross_validation.task, cross_validation.settings
    main = _main(cross_validation)
    columns = _further_columns(cross_validation)

    rows = []
    for rank, setting in enumerate(settings, 1):
        score = setting.score
        row = [
            str(rank),
            f"`{setting.name}`",
            setting.first.run.family,
            f"{len(setting.folds)} of {cross_validation.text.folds}",
            _seeds(setting),
            _spread(setting, main, task.form),
            setting_tests.interval(score.low, score.high, f"{{:.{task.interval_decimals}f}}"),
        ]
        row += [_spread(setting, key, form) for _, key, form in columns]
        rows.append((*row, setting_tests.better_than(cross_validation, rank)))

    interval = f"{cross_validation.confidence:.0%} interval"
    is_of_score = task.difference == task.main_title
    header = (
        "",
        "setting",
        "family",
        "folds",
        "seeds of a fold",
        task.main_title,
        interval if is_of_score else f"{interval}, {task.difference}",
        *(name for name, _, _ in columns),
        "better than",
    )
    numbers = (True, False, False, *[True] * (len(header) - 4), False)
    return Table(header, tuple(rows), numbers, first=setting_tests.unbeaten(cross_validation))


def _further_columns(cross_validation: CrossValidation) -> list[Column]:
    """The validation score and the first column next to the main score, if all runs have them."""
    task = cross_validation.task
    columns = [
        (name, f"{cross_validation.split}.{key}", form) for name, key, form in task.columns[:1]
    ]
    if cross_validation.split == TEST:
        columns.insert(
            0, (f"{task.main_title}, validation", f"{VALID}.{task.main}.score", task.form)
        )
    return [
        (name, key, form)
        for name, key, form in columns
        if all(setting.values(key) for setting in cross_validation.settings)
    ]


def scores_by_fold(cross_validation: CrossValidation) -> list[Block]:
    """The score of every setting on every fold, as the mean over its seeds."""
    main = _main(cross_validation)
    settings = cross_validation.settings
    form = cross_validation.task.form
    scores = [
        dict(zip([f.first.run.corpus for f in setting.folds], setting.values(main), strict=True))
        for setting in settings
    ]
    rows = [
        (
            f"`{group.corpus}`",
            *(form.format(s[group.corpus]) if group.corpus in s else NONE for s in scores),
        )
        for group in cross_validation.groups
    ]
    header = ("fold", *(f"`{setting.name}`" for setting in settings))
    return [
        Heading(3, f"{upper_first(cross_validation.task.main_name)} by fold"),
        Table(header, tuple(rows), (False, *[True] * len(settings))),
    ]


def explanation(cross_validation: CrossValidation) -> Paragraph:
    """What the means, intervals and tests over folds say."""
    rows = round(1 / cross_validation.ratio)
    size = f"1/{rows}" if rows > 1 else "1"
    return Paragraph(
        "Runs that differ only in the fold that is held out are one setting, cross-validated. "
        f"Each fold is the {cross_validation.split_name} set once, and the mean over the folds is "
        "the setting's score, ± the standard deviation between folds. A fold with several seeds "
        "counts once, by their mean. The training texts of the folds overlap, so that scores of "
        "folds are not independent, and a plain t-test finds too many differences. Intervals and "
        "tests are those of the corrected resampled t-test (Nadeau & Bengio 2003): the variance of "
        "a mean over F folds is "
        f"(1/F + {size}) times the variance between folds, as a fold has {size} as many "
        f"{cross_validation.split_name} rows as training rows, with F - 1 degrees of freedom. Two "
        "settings are compared fold by fold, on the folds that both have. **better than** is this "
        f"test at p < {LEVEL}, corrected once for all pairs of the table (Holm 1979)."
    )


def notes(cross_validation: CrossValidation) -> list[Block]:
    """Which settings and pairs are in no test, and why."""
    found = []
    if cross_validation.single:
        named = ", ".join(f"`{setting.name}`" for setting in cross_validation.single)
        found.append(f"no test has {named}: one fold supports no claim")
    if same := [f"`{s.name}`" for s in cross_validation.settings if _same_seeds(s)]:
        found.append(
            f"every fold has the same seed ({', '.join(same)}): what this seed does alike on all "
            "folds counts as the setting's, and only seeds that differ between folds would show it "
            "in the deviation"
        )
    if cross_validation.untested:
        found.append(cross_validation.untested)
    return [Paragraph(f"Note: {note}.") for note in found]


def tests(cross_validation: CrossValidation) -> list[Block]:
    """The test of every pair of settings over folds, and how large a difference it can find."""
    if not cross_validation.pairs:
        return []
    form = f"{{:.{cross_validation.task.difference_decimals}f}}"
    rows = []
    for pair in cross_validation.pairs:
        detectable = form.format(pair.detectable) if math.isfinite(pair.detectable) else NONE
        name, *difference = setting_tests.difference(cross_validation, pair)
        rows.append((name, str(pair.folds), *difference, detectable))
    header = (
        "pair of settings",
        "folds",
        *setting_tests.difference_header(cross_validation),
        "detectable",
    )
    return [
        Heading(3, f"Tests over folds ({cross_validation.text.name})"),
        Table(header, tuple(rows), (False, True, True, True, True, True, False, True)),
        Paragraph(
            "`detectable` is the smallest true difference that the test finds with a power of "
            "about 80 %. A difference that is the same on every fold has no interval: its variance "
            "cannot be estimated."
        ),
    ]


def scores_of_fold(group: Group) -> list[Block]:
    """The scores of the settings on one fold, without any test."""
    assert group.fold_of is not None
    main = f"{group.split}.{group.task.main}.score"
    rows = [
        (
            f"`{setting.name}`",
            setting.first.run.family,
            f"{setting.first.metric('parameters'):,}",
            cells.seeds(setting),
            cells.mean_score(setting, main, group.task.form),
        )
        for setting in group.settings
    ]
    header = ("setting", "family", "parameters", "seeds", group.task.main_title)
    return [
        Paragraph(
            f"This is one fold of a cross-validated text ({group.fold_of.name}). Its scores "
            "support no claim: settings are compared over the folds."
        ),
        Table(header, tuple(rows), (False, False, True, True, True)),
    ]


def _main(cross_validation: CrossValidation) -> str:
    return f"{cross_validation.split}.{cross_validation.task.main}.score"


def _spread(setting: FoldResults, key: str, form: str) -> str:
    values = setting.values(key)
    return f"{form.format(mean(values))} ± {form.format(stdev(values))}"


def _same_seeds(setting: FoldResults) -> set[int]:
    """The seeds that every fold has; a deterministic setting draws no random numbers."""
    if setting.is_deterministic:
        return set()
    seeds = [{result.run.seed for result in fold.results} for fold in setting.folds]
    return set.intersection(*seeds)


def _seeds(setting: FoldResults) -> str:
    """The number of seeds of a fold; a deterministic setting needs none."""
    if setting.is_deterministic:
        return "none"
    counts = [len(fold.results) for fold in setting.folds]
    if max(counts) == 1:
        return "one seed"
    return " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))
