"""Quick checks of a store before MLflow opens it, which retries for minutes. Imports mlflow."""

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_LOCKED_SECONDS = 5.0
_CONNECT_SECONDS = 30.0  # to another continent and a busy server
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}


def open_file(database: Path) -> None:
    """Raise the error of opening the SQLite file, if there is one: MLflow would retry for
    minutes."""
    if not database.exists():
        return
    if database.is_dir():
        raise IsADirectoryError(f"{database} is a folder, not an SQLite file")

    # Read-only: opening must not create or change anything.
    address = f"file:{quote(os.fsencode(database.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_LOCKED_SECONDS)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchall()
    except sqlite3.Error as error:
        raise MlflowException(f"{database}: {error}") from None


def reach(address: str) -> None:
    """Raise OSError if no server listens at the address of a database: MLflow would retry for
    minutes."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # a port that is no number
        return  # no database, or one that MLflow refuses itself
    usual = _DATABASE_PORTS.get(url.get_backend_name())
    if url.host and usual:
        socket.create_connection((url.host, url.port or usual), _CONNECT_SECONDS).close()
