"""Sentences on the outcome of a group's tests."""

from collections.abc import Collection, Sequence
from statistics import stdev

from pipeline.report import cells
from pipeline.report.cross_validation import CrossValidation
from pipeline.report.document import Block, Paragraph
from pipeline.report.results import LEVEL, Group


def outcome(group: Group) -> str:
    """Say in a few sentences which setting is best, and which it does not beat."""
    best = group.settings[0]
    others = [setting.name for setting in group.settings[1:]]
    mean = cells.mean_score(best, f"{group.split}.{group.task.main}.score", group.task.form)
    score = f"{group.task.main_name} {mean}"
    if not others:
        return f"`{best.name}` is the only setting on this corpus, with {score}."
    if not best.supports_claims:
        return (
            f"`{best.name}` has the best score, {score}, with one seed. That says nothing about "
            "another seed: the setting is in no test of settings."
        )

    beaten = group.beaten_by(best.name, LEVEL)
    if len(beaten) == len(others):
        return f"`{best.name}` is best with {score}, significantly better than every other setting."
    tested = group.compared_with(best.name)
    sentences = [f"`{best.name}` has the best score, {score}."]
    if not_beaten := [name for name in others if name in tested and name not in beaten]:
        sentences.append(f"It is not significantly better than {_names(not_beaten)}.")
        sentences += _why_not_beaten(group, beaten, not_beaten)
    if untested := [name for name in others if name not in tested]:
        sentences.append(f"No test compares it with {_names(untested)}.")
    return " ".join(sentences)


def _why_not_beaten(
    group: Group, beaten: Collection[str], not_beaten: Collection[str]
) -> list[str]:
    """A sentence that names a beaten setting which ranks above others that are not beaten, if
    those vary more over the seeds."""
    key = f"{group.split}.{group.task.main}.score"
    spread = {
        setting.name: stdev(values)
        for setting in group.settings
        if len(values := setting.values(key)) > 1
    }
    ranked = [setting.name for setting in group.settings]
    better = next((name for name in ranked if name in beaten and name in spread), None)
    if better is None:
        return []
    lower = [
        name
        for name in ranked[ranked.index(better) :]
        if name in not_beaten and spread.get(name, 0.0) > spread[better]
    ]
    if not lower:
        return []
    return [
        f"`{better}` ranks above {_names(lower)} and is beaten all the same: its scores vary less "
        "over the seeds."
    ]


def unbeaten_baseline(group: Group | CrossValidation) -> list[Block]:
    """A warning if no setting with a trained network is known to beat the best baseline."""
    baselines = [setting.name for setting in group.settings if setting.is_deterministic]
    networks = [setting.name for setting in group.settings if not setting.is_deterministic]
    if not baselines or not networks:
        return []
    baseline = baselines[0]
    if any(baseline in group.beaten_by(name, LEVEL) for name in networks):
        return []
    tested = group.compared_with(baseline)
    untested = [name for name in networks if name not in tested]
    if len(untested) == len(networks):
        text = f"No test compares a neural setting with the baseline `{baseline}`."
        return [Paragraph(text, warning=True)]
    text = f"**No neural setting is significantly better than the baseline** `{baseline}`."
    if untested:
        text += f" No test compares it with {_names(untested)}."
    return [Paragraph(text, warning=True)]


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
