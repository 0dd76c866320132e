"""The sections of flow.yaml that a retraining needs, loaded together before it begins. No prefect here."""

from dataclasses import dataclass
from pathlib import Path

from pipeline import config
from pipeline.flow import settings
from pipeline.flow.notify import Notify
from pipeline.flow.publish import Publish
from pipeline.gate import settings as gate


@dataclass(frozen=True, slots=True)
class Sections:
    """How stages are run, when a challenger wins, and what becomes of what was made."""

    run: settings.Run
    gate: gate.Settings
    publish: Publish
    notify: Notify


def load(root: Path) -> Sections:
    """All of the project's flow.yaml; UserError for the first mistake in it."""
    path = root / settings.FILE
    for key in config.read(path):
        config_known(key)
    return Sections(
        run=settings.load(root),
        gate=gate.load(path),
        publish=config.load(Publish, config.section(path, "publish"), "publish"),
        notify=config.load(Notify, config.section(path, "notify"), "notify"),
    )
