"""The section `notify` of flow.yaml: a command, such as a mailer or curl, that reports how a
retraining ended."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.errors import refuse

Event = Literal["promoted", "kept", "failed", "nothing"]
_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Notify:
    """The `command`, a list of words or null for none, gets the summary on its standard input and
    the event in SEQLINE_EVENT. It is run for the `events` only."""

    command: tuple[str, ...] | None
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        if self.command is not None and not self.command:
            raise refuse(
                "command", "no words", "a program and its arguments, or null for no command"
            )


def run_command(root: Path, settings: Notify, event: Event, summary: str) -> str:
    """Run the command if the settings name this event; return the problem in a line, or ""."""
    if settings.command is None or event not in settings.events:
        return ""

    environment = {**os.environ, "SEQLINE_EVENT": event, "SEQLINE_PROJECT": root.name}
    try:
        process = subprocess.Popen(
            settings.command,
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a group of its own, for `killpg`
        )
    except OSError as error:
        return (
            f"notify.command: got {settings.command[0]}: {error.strerror}; expected a "
            "program that starts"
        )

    try:
        output, _ = process.communicate(summary + "\n", timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the command, and all that it has started
        process.communicate()
        return (
            f"notify.command: got nothing within {_SECONDS:g} s; expected "
            f"{settings.command[0]} to end"
        )

    if process.returncode:
        last = " ".join(output.split())[-200:] or "no output"
        return (
            f"notify.command: got status {process.returncode} from {settings.command[0]} "
            f"({last}); expected 0"
        )
    return ""
