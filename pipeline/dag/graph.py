"""The plan: DVC's stages, the dependencies of each, and which of them are up to date. No prefect
here.

DVC is read once for all of it (`read`, in the process of fork_server.py or of this module's
command); everything else is arithmetic on the answer.

    python -m pipeline.dag.graph read TARGET...   print `report` for the project here, as JSON
    python -m pipeline.dag.graph order            `order_lock`; {"before": [...], "plan": [...]} is
                                                  the input
"""

import argparse
import contextlib
import difflib
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import state_dir
from pipeline.core.atomic import write_file
from pipeline.core.errors import UserError, describe_error, refuse
from pipeline.dag import lockfile, paths

_LOCK_ATTEMPTS = 10
_LOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages that the targets need, in the order in which `dvc repro` would run them.

    `needs`: by address, the stages that it waits for. `fresh`: stages that are up to date, as are
    all stages before them."""

    needs: dict[str, tuple[str, ...]]
    fresh: frozenset[str]

    def stale(self) -> list[str]:
        """Return the stages to be run, in order."""
        return [address for address in self.needs if address not in self.fresh]

    def below(self, address: str) -> set[str]:
        """Return every stage that needs this one, directly or through others."""
        below = {address}
        for dependent, needs in self.needs.items():  # a stage comes after those that it needs
            if not below.isdisjoint(needs):
                below.add(dependent)
        return below - {address}


def kind(address: str) -> str:
    """Return the stage's name in `dvc.yaml`: `train` of `train@lstm`."""
    return address.partition("@")[0]


def report(root: Path, targets: Sequence[str]) -> dict[str, Any]:
    """Return the plan and the stages of `dvc.lock` as JSON values, or the message of a UserError
    under `refused`."""
    try:
        plan = read(root, targets)
        return {"needs": plan.needs, "fresh": sorted(plan.fresh), "locked": locked_stages(root)}
    except UserError as error:
        return {"refused": str(error)}


def parse_report(values: Mapping[str, Any], root: Path) -> tuple[Plan, list[str]]:
    """Return the plan and the stages of `dvc.lock` out of a `report`; UserError if it has none."""
    if "refused" in values:
        raise UserError(values["refused"])
    if "needs" not in values:
        raise UserError(
            "dvc.yaml: got no plan; expected DVC to read it. See "
            f"{root / state_dir.FORK_SERVER_LOG}."
        )
    needs = {address: tuple(stages) for address, stages in values["needs"].items()}
    return Plan(needs, frozenset(values["fresh"])), values["locked"]


def read(root: Path, targets: Sequence[str]) -> Plan:
    """Return the plan for the targets, or for all stages; UserError for an unknown target and for
    what DVC cannot read."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    paths.check_names(root)
    try:
        with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
            graph = get_active_graph(repo.index.graph)
            _check_targets(targets, [stage.addressing for stage in graph])

            # The order of `dvc repro`, by its own function.
            order = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
            needs = {
                stage.addressing: tuple(need.addressing for need in graph.successors(stage))
                for stage in order
            }

            # `changed` sees the files as they are, and a stale dependency will change them.
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
    """Return whether `dvc repro` would run the stage.

    While another dvc writes one of the stage's files, wait."""
    from dvc.lock import LockError

    for attempt in range(_LOCK_ATTEMPTS):
        try:
            return bool(stage.changed())
        except LockError as error:
            if attempt + 1 == _LOCK_ATTEMPTS:
                raise UserError(describe_error(error)) from None
            time.sleep(_LOCK_SECONDS)
    raise AssertionError


def _check_targets(targets: Iterable[str], addresses: Sequence[str]) -> None:
    """Refuse a target that is neither a stage nor a group of stages."""
    groups = list(dict.fromkeys(kind(address) for address in addresses))
    choices = list(dict.fromkeys([*addresses, *groups]))
    for target in targets:
        if target in choices:
            continue
        close = difflib.get_close_matches(target, choices, 1)
        todo = f"Did you mean {close[0]!r}?" if close else "`dvc stage list` shows them all."
        raise refuse("TARGET", target, f"a stage, or one of {', '.join(groups)}", todo)


def sorted_lock(names: Sequence[str], before: Iterable[str], order: Iterable[str]) -> list[str]:
    """Sort the stages `names` of a lock file as `dvc repro` would have left them.

    First come those that it had `before`, and those that are not in the plan `order`; then the
    new ones, in the plan's order."""
    old = set(before)
    rank = {address: position for position, address in enumerate(order)}
    kept = [name for name in names if name in old or name not in rank]
    return kept + sorted(set(names) - set(kept), key=rank.__getitem__)


def locked_stages(root: Path) -> list[str]:
    """Return the stages of `dvc.lock`, in its order."""
    from dvc.utils.serialize import load_yaml

    path = root / "dvc.lock"
    if not path.exists():
        return []
    stages = lockfile.split_stages(path.read_text(encoding="utf-8"))
    return list(load_yaml(str(path)).get("stages", {}) if stages is None else stages)


def order_lock(root: Path, before: Sequence[str], order: Sequence[str]) -> None:
    """Move the stages that are new in `dvc.lock` to their places in `sorted_lock`.

    Parallel stages are written as they end."""
    names = locked_stages(root)
    if sorted_lock(names, before, order) == names:
        return

    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    path = root / "dvc.lock"
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        stages = lockfile.split_stages(path.read_text(encoding="utf-8"))
        if stages is not None:
            # In one step, and without parsing YAML.
            ordered = {name: stages[name] for name in sorted_lock(list(stages), before, order)}
            write_file(path, lockfile.join_stages(ordered).encode())
            return
        with modify_yaml(str(path)) as content:
            for name in sorted_lock(list(content["stages"]), before, order):
                content["stages"].move_to_end(name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.dag.graph", description=__doc__)
    parser.add_argument("action", choices=("read", "order"))
    parser.add_argument("targets", nargs="*")
    arguments = parser.parse_args()

    root = Path.cwd()
    if arguments.action == "read":
        with contextlib.redirect_stdout(sys.stderr):  # DVC may print
            plan = report(root, arguments.targets)
        print(json.dumps(plan))
    else:
        stages = json.load(sys.stdin)
        order_lock(root, stages["before"], stages["plan"])


if __name__ == "__main__":
    main()
