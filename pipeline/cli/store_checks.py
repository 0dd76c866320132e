"""Checks of `seqline doctor` about MLflow."""

import sqlite3
from pathlib import Path

import requests
import sqlalchemy

from pipeline.cli.finding import Finding
from pipeline.core.errors import describe_error, redact
from pipeline.tracking import describe, spools

_STORE_TIMEOUT = 5  # seconds
_SHOWN_NAMES = 3
_YET_TO_COME = "created at the first training or `seqline sync`"


def store(root: Path) -> Finding:
    """The MLflow store: a server that answers, a SQLite file that opens, or another database that
    has runs."""
    uri = describe.uri(root)
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    if uri.startswith("databricks"):
        return Finding("warn", "store", f"{redact(uri)} is not checked")

    file = describe.database(root)
    if file is None:
        return _database(uri)
    if not file.exists():
        return Finding("ok", "store", f"{redact(uri)} ({_YET_TO_COME})")

    try:
        # Read-only: a check must not change the database.
        with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as opened:
            [[runs]] = opened.execute("select count(*) from runs")
    except sqlite3.Error as error:
        todo = "Move the file away; `seqline sync` makes a new one from DVC's outputs."
        return Finding("FAIL", "store", f"{file}: {error}", todo)
    return Finding("ok", "store", f"{file.name} with {runs} runs")


def trainings(root: Path) -> Finding:
    """Trainings of which MLflow lacks something, as on a busy machine, or without its server."""
    left = spools.pending(root)
    if not left:
        return Finding("ok", "trainings", "MLflow has all of them")
    names = ", ".join(spool.header["run"] for spool in left[:_SHOWN_NAMES])
    more = ", ..." if len(left) > _SHOWN_NAMES else ""
    detail = f"{len(left)} not all in MLflow ({names}{more})"
    return Finding("warn", "trainings", detail, "Run `seqline sync`.")


def _server(uri: str) -> Finding:
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_STORE_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        return _unreachable(uri, error)
    return Finding("ok", "store", f"{redact(uri)} answers {answer.status_code}")


def _database(uri: str) -> Finding:
    """Query through SQLAlchemy: MLflow's own client would create tables."""
    try:
        # Not every driver has this option: sqlite3 refuses it.
        has_timeout = sqlalchemy.make_url(uri).get_backend_name() in ("postgresql", "mysql")
        settings = {"connect_timeout": _STORE_TIMEOUT} if has_timeout else {}
        with sqlalchemy.create_engine(uri, connect_args=settings).connect() as opened:
            if not sqlalchemy.inspect(opened).has_table("runs"):
                return Finding("ok", "store", f"{redact(uri)} ({_YET_TO_COME})")
            runs = opened.scalar(sqlalchemy.text("select count(*) from runs"))
    except sqlalchemy.exc.OperationalError as error:
        return _unreachable(uri, error)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        # no address of a database (a port that is no number), or no driver for it
        todo = "Correct MLFLOW_TRACKING_URI, or unset it for the project's own mlflow.db."
        return Finding("FAIL", "store", f"{redact(uri)}: {describe_error(error)}", todo)
    return Finding("ok", "store", f"{redact(uri)} with {runs} runs")


def _unreachable(uri: str, error: Exception) -> Finding:
    return Finding(
        "warn",
        "store",
        f"{redact(uri)}: {describe_error(error)}",
        "Trainings do not need it. Start it, then run `seqline sync`.",
    )
