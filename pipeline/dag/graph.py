"""The plan: DVC's stages, the dependencies of each, and which of them are up to date. No prefect
here.

DVC is asked once for all of it (`read`, in the process of fork_server.py); everything else is
arithmetic on the answer."""

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.core.atomic import write_file
from pipeline.core.errors import UserError, describe_error, refuse
from pipeline.dag import lockfile, paths

_LOCK_ATTEMPTS, _LOCK_SECONDS = 10, 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages that the targets need, in the order in which `dvc repro` would run them.

    `needs`: by address, the stages that it waits for. `fresh`: up to date, and so are all that it
    stands on."""

    needs: dict[str, tuple[str, ...]]
    fresh: frozenset[str]

    def stale(self) -> list[str]:
        """The stages to be run, in order."""
        return [address for address in self.needs if address not in self.fresh]

    def dependents(self) -> dict[str, list[str]]:
        """By address, the stages that wait for it."""
        found: dict[str, list[str]] = {address: [] for address in self.needs}
        for address, needs in self.needs.items():
            for need in needs:
                found[need].append(address)
        return found

    def below(self, address: str) -> set[str]:
        """Every stage that needs this one, be it by way of others."""
        waiting, found, dependents = [address], set[str](), self.dependents()
        while waiting:
            for other in dependents[waiting.pop()]:
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    def to_json(self) -> dict[str, Any]:
        """As plain lists and mappings."""
        return asdict(self) | {"fresh": sorted(self.fresh)}


def from_json(values: Mapping[str, Any]) -> Plan:
    """The opposite of `Plan.to_json`."""
    return Plan(
        {address: tuple(needs) for address, needs in values["needs"].items()},
        frozenset(values["fresh"]),
    )


def kind(address: str) -> str:
    """`train` of `train@lstm`: the stage's name in `dvc.yaml`."""
    return address.partition("@")[0]


def read(root: Path, targets: Sequence[str]) -> Plan:
    """The plan for the targets, or for all there is; UserError for an unknown target and for what
    DVC cannot read."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    paths.check_names(root)
    try:
        with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
            graph = get_active_graph(repo.index.graph)
            known = [stage.addressing for stage in graph]
            _check(targets, known)
            order = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
            needs = {
                stage.addressing: tuple(need.addressing for need in graph.successors(stage))
                for stage in order
            }
            fresh: set[str] = set()
            for stage in order:
                if fresh.issuperset(needs[stage.addressing]) and not _changed(stage):
                    fresh.add(stage.addressing)
            return Plan(needs, frozenset(fresh))
    except DvcException as error:
        raise refuse(
            "dvc.yaml",
            describe_error(error),
            "a DAG that DVC can read",
            "`dvc status` shows it too.",
        ) from None


def _changed(stage: Any) -> bool:
    """Return whether `dvc repro` would run the stage; wait for another dvc that is just writing one
    of the stage's files."""
    from dvc.lock import LockError

    for attempt in range(_LOCK_ATTEMPTS):
        try:
            return bool(stage.changed())
        except LockError as error:
            if attempt + 1 == _LOCK_ATTEMPTS:
                raise UserError(describe_error(error)) from None
            time.sleep(_LOCK_SECONDS)
    raise AssertionError


def _check(targets: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a target that is neither a stage nor a group of them nor a file."""
    choices = list(dict.fromkeys([*known, *(kind(address) for address in known)]))
    for target in targets:
        if target not in choices:
            close = difflib.get_close_matches(target, choices, 1)
            groups = ", ".join(dict.fromkeys(kind(address) for address in known))
            todo = f"Did you mean {close[0]!r}?" if close else "`dvc stage list` shows them all."
            raise refuse("TARGET", target, f"a stage, or one of {groups}", todo)


def sorted_lock(names: Sequence[str], before: Iterable[str], order: Iterable[str]) -> list[str]:
    """The stages `names` of a lock file as `dvc repro` would have left them: those it had `before`,
    then the plan's."""
    old, rank = set(before), {address: place for place, address in enumerate(order)}
    kept = [name for name in names if name in old or name not in rank]
    return kept + sorted((name for name in names if name not in set(kept)), key=rank.__getitem__)


def locked_stages(root: Path) -> list[str]:
    """The stages of `dvc.lock`, in its order."""
    from dvc.utils.serialize import load_yaml

    path = root / "dvc.lock"
    if not path.exists():
        return []
    found = lockfile.split_stages(path.read_text(encoding="utf-8"))
    return list(load_yaml(str(path)).get("stages", {}) if found is None else found)


def order_lock(root: Path, before: Sequence[str], order: Sequence[str]) -> None:
    """Put the stages that are new in `dvc.lock` where `dvc repro` would have put them: they are
    written as they end."""
    names = locked_stages(root)
    if sorted_lock(names, before, order) == names:
        return
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    path = str(root / "dvc.lock")
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        found = lockfile.split_stages(Path(path).read_text(encoding="utf-8"))
        if found is not None:
            ordered = {name: found[name] for name in sorted_lock(list(found), before, order)}
            write_file(Path(path), lockfile.join_stages(ordered).encode())
            return
        with modify_yaml(path) as content:
            for name in sorted_lock(list(content["stages"]), before, order):
                content["stages"].move_to_end(name)
