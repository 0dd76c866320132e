"""All sections of flow.yaml, loaded together before a flow begins. Nothing here imports prefect."""

from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.core import config
from pipeline.core.errors import refuse
from pipeline.dag import run_settings
from pipeline.download import budget
from pipeline.flow import served_schedule
from pipeline.flow.notify import Notify
from pipeline.flow.publish import Publish
from pipeline.promotion import settings as gate
from pipeline.promotion import trained_runs


@dataclass(frozen=True, slots=True)
class Sections:
    """Settings of flow.yaml: running stages, limits of downloads, the gate for challengers,
    publishing, notifications and `seqline schedule`."""

    run: run_settings.Run
    download: budget.Budget
    gate: gate.Settings
    publish: Publish
    notify: Notify
    schedule: served_schedule.Settings


def load(root: Path) -> Sections:
    """Load the project's flow.yaml; UserError for the first mistake in it."""
    path = root / run_settings.FILE
    names = [field.name for field in fields(Sections)]
    for key in config.read(path):
        if key not in names:
            raise refuse(
                f"{run_settings.FILE}: {key}",
                "an unknown section",
                f"one of {', '.join(names)}",
                "Remove it.",
            )

    gate_settings = gate.load(path)
    trained_runs.check_baselines(root, gate_settings)
    return Sections(
        run=run_settings.load(root),
        download=budget.load(root),
        gate=gate_settings,
        publish=config.load(Publish, config.section(path, "publish"), "publish"),
        notify=config.load(Notify, config.section(path, "notify"), "notify"),
        schedule=config.load(
            served_schedule.Settings, config.section(path, "schedule"), "schedule"
        ),
    )
