"""For every task on a corpus: who challenges the champion now, what the gate says, and the record
of that. No prefect.

The challenger is the best run by its validation score. It is compared on the champion's own test
set, laid out of DVC's cache by its md5, and on the present one if that is another. What was decided
once, of the same two by the same rules, is not decided again, in no clone of the project: MLflow's
registry keeps it with the challenger. A version that somebody rolled back does not challenge again.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from pipeline import promotion
from pipeline.core import config, state_dir
from pipeline.core.atomic import atomic_file
from pipeline.dag import cache, paths, process_groups, run_settings
from pipeline.dag.run_settings import FILE
from pipeline.flow import devices, pending_publish
from pipeline.promotion import select
from pipeline.promotion import settings as rules
from pipeline.promotion.stage_commands import Commands
from pipeline.tracking import lineage, registry
from pipeline.tracking.registry import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Outcome for the challenger of `name`: `same` is the champion itself, `decided` was refused
    before, be it by a rollback. `markdown` is the whole record of a decision that was taken now.
    """

    name: str
    event: Literal["promoted", "kept", "same", "decided"]
    line: str
    version: Version
    markdown: str = ""


def runs_by_model(root: Path) -> dict[str, list[str]]:
    """The evaluated runs by the registered model that they are versions of."""
    found: dict[str, list[str]] = {}
    for made in lineage.evaluated(root):
        found.setdefault(registry.name_of(made.task, made.corpus), []).append(made.run)
    return found


def evaluate(root: Path, name: str, runs: list[str]) -> Verdict:
    """Choose the challenger among the runs, decide, and promote it if it won; a version's artifacts
    keep the decision."""
    version = registry.current(root, _chosen(root, runs))
    champion = registry.champion(root, name)
    if champion is not None and champion.version == version.version:
        return Verdict(
            name=name,
            event="same",
            line=f"{name}: {version.run} is champion still",
            version=version,
        )
    if version.version in registry.rolled_back(root, name):
        back = (
            f"{name}: {_label(version)} was rolled back and does not challenge again; "
            "`seqline promote` brings it back"
        )
        return Verdict(name=name, event="decided", line=back, version=version)
    key = _key(root, champion, version)
    if (line := registry.judged(root, version, key)) is not None:
        return Verdict(name=name, event="decided", line=f"{line} (decided before)", version=version)
    if champion is not None:
        registry.challenge(root, version)
    decision = _decide(root, name, champion, version)
    _attach(root, version, champion, decision)
    if decision.promote:
        pending_publish.add(root, str(version))
        registry.promote(
            root, version, {"verdict": decision.verdict, "p": str(decision.p)}, over=champion
        )
    line = f"{name}: {decision.verdict}"
    lost = (
        f"{name}: {_label(version)} won, and the alias was moved back by hand; `seqline "
        "promote` brings it back"
    )
    registry.judge(root, version, key, lost if decision.promote else line)
    event: Literal["promoted", "kept"] = "promoted" if decision.promote else "kept"
    return Verdict(name=name, event=event, line=line, version=version, markdown=decision.markdown())


def _chosen(root: Path, runs: list[str]) -> str:
    """The run with the best validation score."""
    blocks = config.section(root / "params.yaml", "runs")
    [folder] = {paths.option(root, "evaluate", run, blocks[run], "metrics").parent for run in runs}
    return promotion.choose(select.metrics(folder, runs))


def _decide(
    root: Path, name: str, champion: Version | None, version: Version
) -> promotion.Decision:
    place = root / state_dir.CHALLENGES / name
    own = promotion.Contender(
        label=_label(version),
        params=root / "params.yaml",
        run=version.run,
        model=root / version.places["model"],
        vocab=root / version.places["vocab"],
    )
    tokens, other = {"the present test set": root / version.places["tokens"]}, None
    if champion is not None:
        other = _laid_out(root, place / "champion", champion)
        if champion.md5("tokens") != version.md5("tokens"):
            tokens = {
                "the champion's test set": _out(root, place / "champion", champion, "tokens"),
                **tokens,
            }
    return promotion.challenge(
        root, other, own, tokens, rules.load(root / FILE), place / "answers", RecordedCommands(root)
    )


class RecordedCommands(Commands):
    """The gate's stages as process groups on record, so that none outlives a flow that is killed;
    their limits and their places on GPUs are those of the DAG's stages."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, run_settings.load(root).time_limits)
        self._home, self._mark = root, uuid.uuid4().hex
        self._slots, self._turn = devices.project_slots(root), threading.Condition()
        process_groups.folder(root).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _place(self, name: str) -> Iterator[dict[str, str]]:
        with self._turn:
            place = self._turn.wait_for(lambda: self._slots.acquire(name))
        assert place is not None
        try:
            yield place.environment()
        finally:
            with self._turn:
                place.release()
                self._turn.notify_all()

    def _start(
        self, command: Sequence[str], env: dict[str, str], log: IO[Any]
    ) -> "subprocess.Popen[bytes]":
        return process_groups.start(
            self._home, command, env | {process_groups.MARK: self._mark}, log
        )

    def _stop(self, child: "subprocess.Popen[bytes]") -> None:
        process_groups.end(self._home, child.pid, gently=False)

    def _ended(self, child: "subprocess.Popen[bytes]") -> None:
        process_groups.end(self._home, child.pid, gently=False)


def _laid_out(root: Path, place: Path, champion: Version) -> promotion.Contender:
    """The champion as it was when it was made; what an earlier one left in the folder is
    removed."""
    kinds = ("model", "vocab", "tokens")
    for old in place.glob("*") if place.exists() else ():
        if (
            old.name not in {*(_folder(champion, kind) for kind in kinds), "params.yaml"}
            and old.is_dir()
        ):
            shutil.rmtree(old)
    model, vocab = (_out(root, place, champion, kind) for kind in ("model", "vocab"))
    content = config.read(root / "params.yaml")
    content["corpora"] = content["corpora"] | {champion.corpus: champion.corpus_block}
    content["runs_by_model"] = {champion.run: champion.block}
    with atomic_file(place / "params.yaml") as beside:
        beside.write_text(
            yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    return promotion.Contender(
        label=_label(champion),
        params=place / "params.yaml",
        run=champion.run,
        model=model,
        vocab=vocab,
    )


def _folder(version: Version, kind: str) -> str:
    return f"{kind}-{version.md5(kind).removesuffix('.dir')}"


def _out(root: Path, place: Path, version: Version, kind: str) -> Path:
    """One of the version's folders, out of DVC's cache or a remote."""
    folder = place / _folder(version, kind)
    cache.materialise(root, version.md5(kind), folder)
    return folder


def _label(version: Version) -> str:
    return f"{version.run} (version {version.version})"


def _attach(
    root: Path, version: Version, champion: Version | None, decision: promotion.Decision
) -> None:
    """Keep the decision among the artifacts of the challenger's MLflow run."""
    against = f"version-{champion.version}" if champion else "nobody"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "gate" / against
        folder.mkdir(parents=True)
        (folder / "decision.md").write_text(decision.markdown(), encoding="utf-8")
        (folder / "decision.json").write_text(decision.json(), encoding="utf-8")
        registry.attach(root, version, Path(scratch))


def _key(root: Path, champion: Version | None, version: Version) -> str:
    """All that the decision on these two depends on."""
    of = [champion.digest if champion else None, version.digest, asdict(rules.load(root / FILE))]
    return hashlib.sha256(
        json.dumps([*of, config.section(root / "params.yaml", "evaluation")]).encode()
    ).hexdigest()
