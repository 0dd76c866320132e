"""Calls to MLflow's model registry: searches, the champion alias, and the tags that record its
moves.

The alias `champion` is the truth: moving it is one call, hence atomic. Each move is recorded before
it, in a tag of the registered model; earlier champions are read from these tags. A record whose
move never happened, or a champion that somebody set on MLflow's pages, does not spoil them (see
`versions.champion_moves`)."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pipeline.core.errors import refuse
from pipeline.tracking.lineage import EvaluatedRun
from pipeline.tracking.mlflow_store import all_pages
from pipeline.tracking.versions import (
    CHAMPION,
    DIGEST,
    LINEAGE,
    ChampionPeriod,
    Version,
    champion_moves,
    model_name,
    read_tags,
    read_version,
)

_MOVE = "promotion."  # prefix of the tags that record moves; the time follows
# names of a task and a corpus; no quotes, which would end the string in a search
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)
_PAGE_SIZE = 1000


def search_versions(client: Any, condition: str) -> Iterator[Version]:
    """Yield the project's versions on which the condition holds, the newest first."""
    order = ["version_number DESC"]
    search = partial(client.search_model_versions, condition, _PAGE_SIZE, order)
    return (read_version(entry) for entry in all_pages(search) if LINEAGE in read_tags(entry))


def versions_of(client: Any, name: str) -> Iterator[Version]:
    """Yield the versions of the registered model, the newest first."""
    return search_versions(client, f"name = '{name}'")


def find_version(client: Any, run: EvaluatedRun) -> Version | None:
    """Return the version of the evaluated run; None if it is not registered."""
    name = model_name(run.task, run.corpus)
    condition = f"name = '{name}' and tags.`{DIGEST}` = '{run.digest()}'"
    return next(search_versions(client, condition), None)


def model_names(client: Any) -> list[str]:
    """Names of the project's registered models."""
    return [model.name for model in _search_models(client, None)]


def get_model(client: Any, name: str) -> Any:
    """Return MLflow's registered model."""
    [model] = _search_models(client, f"name = '{name}'")
    return model


def check_name(client: Any, name: str) -> str:
    """Return the name of a registered model; UserError if there is none of this name."""
    names = model_names(client)
    if name in names:
        return name
    if names:
        raise refuse("model", name, "one of " + ", ".join(names))
    raise refuse(
        "model",
        name,
        "a registered model, and there is none",
        "Run `dvc repro`, then `seqline sync`.",
    )


def _search_models(client: Any, condition: str | None) -> Iterator[Any]:
    search = partial(client.search_registered_models, condition, _PAGE_SIZE, ["name ASC"])
    return (
        model
        for model in all_pages(search)
        if LINEAGE in read_tags(model) and _NAME.fullmatch(model.name)
    )


def alias_version(model: Any, alias: str) -> int | None:
    """Number of the version that has the alias; None if no version has it."""
    number = model.aliases.get(alias)
    return None if number is None else int(number)


def move_champion(
    client: Any, version: Version, previous: int | None, details: Mapping[str, Any]
) -> None:
    """Move the alias `champion` to the version, after recording the move in a tag.

    The names of the tags sort by time."""
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    move = {"version": version.version, "from": previous, "at": now, **details}
    client.set_registered_model_tag(
        version.name, f"{_MOVE}{time.time_ns()}", json.dumps(move, ensure_ascii=False)
    )
    client.set_registered_model_alias(version.name, CHAMPION, str(version.version))


def recorded_moves(model: Any) -> list[dict[str, Any]]:
    """Return the recorded moves of the alias, in order of time; skip tags of other programs."""
    moves = (parse_tag(text) for key, text in sorted(model.tags.items()) if key.startswith(_MOVE))
    return [
        move
        for move in moves
        if isinstance(move.get("version"), int)
        and isinstance(move.get("from", ""), int | None)
        and isinstance(move.get("at"), str)
        and isinstance(move.get("why", {}), dict)
    ]


def champion_periods(client: Any, name: str) -> list[ChampionPeriod]:
    """The champions that led to the present one, which is last, without those rolled back."""
    model = get_model(client, name)
    versions = {version.version: version for version in versions_of(client, name)}
    moves = champion_moves(recorded_moves(model), alias_version(model, CHAMPION))
    # A version may have been deleted on MLflow's pages.
    return [
        ChampionPeriod(versions[move["version"]], move["at"], dict(move.get("why", {})))
        for move in moves
        if move["version"] in versions
    ]


def parse_tag(text: str) -> dict[str, Any]:
    """Parse the JSON object in a tag; an empty one for anything else, since others can write
    there."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
