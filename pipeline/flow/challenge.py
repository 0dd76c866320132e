"""Challenger evaluation: for every task on a corpus, compare the best run with the champion.

The challenger is the run with the best validation score. It is compared on the champion's own test
set, which DVC's cache restores by its md5, and on the present test set if that differs. MLflow's
registry keeps the decision with the challenger. So the same two versions are compared once under
the same settings, also in another clone of the project. A version that a user rolled back does not
challenge again. Nothing here imports prefect.
"""

import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from pipeline import promotion
from pipeline.core import config, params, state_dir
from pipeline.core.atomic import atomic_file
from pipeline.dag import cache, process_groups, run_settings
from pipeline.dag.run_settings import FILE
from pipeline.flow import devices, pending_publish
from pipeline.flow.challenge_ledger import RegistryLedger
from pipeline.promotion import select, trained_runs
from pipeline.promotion import settings as rules
from pipeline.promotion.stage_commands import Commands
from pipeline.tracking import lineage, registry
from pipeline.tracking.registry import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Outcome for the challenger of the registered model `name`.

    `event` is `same` if the champion itself is the best run, and `decided` if the challenger lost
    before or was rolled back. `markdown` is the record of a decision that was taken now.
    """

    name: str
    event: Literal["promoted", "kept", "same", "decided"]
    line: str
    version: Version
    markdown: str = ""


def runs_by_model(root: Path) -> dict[str, list[str]]:
    """Group the evaluated runs by the registered model that they are versions of."""
    groups: dict[str, list[str]] = {}
    for run in lineage.evaluated_runs(root):
        groups.setdefault(registry.model_name(run.task, run.corpus), []).append(run.run)
    return groups


def evaluate(root: Path, name: str, runs: list[str]) -> Verdict:
    """Choose the challenger among the runs, compare it with the champion, and promote it if it is
    better. The decision is kept among the version's artifacts."""
    version = registry.version_of_run(root, select.best_run(root, runs))
    champion = registry.champion(root, name)
    if champion is not None and champion.version == version.version:
        line = f"{name}: {version.run} is still the champion"
        return Verdict(name=name, event="same", line=line, version=version)
    if version.version in registry.rolled_back_versions(root, name):
        line = (
            f"{name}: {_label(version)} was rolled back and does not challenge again; "
            "`seqline promote` brings it back"
        )
        return Verdict(name=name, event="decided", line=line, version=version)
    settings = rules.load(root / FILE)
    baseline = trained_runs.baseline(root, settings, version.task, version.corpus)
    key = _key(root, champion, version, baseline)
    if (earlier := registry.recorded_decision(root, version, key)) is not None:
        line = f"{earlier} (decided before)"
        return Verdict(name=name, event="decided", line=line, version=version)

    if champion is not None:
        registry.set_challenger(root, version)
    decision = _decide(root, settings, champion, version, baseline)
    _attach(root, version, champion, decision)
    if decision.promote:
        # First: a flow that is killed after the promotion leaves its publishing to the next one.
        pending_publish.add(root, str(version))
        why = {"verdict": decision.verdict, "p": str(decision.p)}
        registry.promote(root, version, why, over=champion)

    line = f"{name}: {decision.verdict}"
    # The stored line is read only if the version challenges again, no longer being champion.
    won = (
        f"{name}: {_label(version)} won, and the alias was moved back manually; `seqline "
        "promote` brings it back"
    )
    registry.record_decision(root, version, key, won if decision.promote else line)
    return Verdict(
        name=name,
        event="promoted" if decision.promote else "kept",
        line=line,
        version=version,
        markdown=decision.markdown(),
    )


def _decide(
    root: Path,
    settings: rules.Settings,
    champion: Version | None,
    version: Version,
    baseline: promotion.Contender | None,
) -> promotion.Decision:
    """Predict with both versions on both test sets, as far as they differ, and compare."""
    folder = root / state_dir.CHALLENGES / version.name
    challenger = promotion.Contender(
        label=_label(version),
        params=root / "params.yaml",
        run=version.run,
        model=root / version.places["model"],
        vocab=root / version.places["vocab"],
    )

    # By its hash, the champion's test set is the present one unless the corpus has changed.
    test_sets = {"the present test set": root / version.places["tokens"]}
    defender = None
    ledger = None
    if champion is not None:
        ledger = RegistryLedger(root, version.name, settings, _pair(settings, champion, version))
        restored = folder / "champion"
        defender = _restore(root, restored, champion)
        if champion.md5("tokens") != version.md5("tokens"):
            tokens = _restore_out(root, restored, champion, "tokens")
            test_sets = {"the champion's test set": tokens, **test_sets}

    return promotion.challenge(
        root,
        defender,
        challenger,
        test_sets,
        settings,
        folder / "answers",
        RecordedCommands(root),
        ledger,
        baseline,
    )


class RecordedCommands(Commands):
    """The evaluation's stages as recorded process groups, so that none outlives a killed flow.

    Their time limits and their places on GPUs are those of the DAG's stages.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, run_settings.load(root).time_limits, record=True)
        self._slots = devices.project_slots(root)
        self._slot_freed = threading.Condition()
        process_groups.folder(root).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _place(self, name: str) -> Iterator[dict[str, str]]:
        with self._slot_freed:
            place = self._slot_freed.wait_for(lambda: self._slots.acquire(name))
        assert place is not None
        try:
            yield place.environment()
        finally:
            with self._slot_freed:
                place.release()
                self._slot_freed.notify_all()


def _restore(root: Path, folder: Path, champion: Version) -> promotion.Contender:
    """Lay out the champion's outputs and params as they were; remove those of earlier champions."""
    # Folders are named by the hash of their content: those of other champions are no longer needed.
    expected = [_folder_name(champion, kind) for kind in ("model", "vocab", "tokens")]
    for path in folder.glob("*"):
        if path.name not in expected and path.is_dir():
            shutil.rmtree(path)

    model = _restore_out(root, folder, champion, "model")
    vocab = _restore_out(root, folder, champion, "vocab")

    # The champion's own blocks: the present ones may have changed since it was trained.
    content = config.read(root / "params.yaml")
    content["corpora"] = content["corpora"] | {champion.corpus: champion.corpus_block}
    content |= params.sections(champion.run, champion.block)
    with atomic_file(folder / "params.yaml") as temporary:
        temporary.write_text(
            yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    return promotion.Contender(
        label=_label(champion),
        params=folder / "params.yaml",
        run=champion.run,
        model=model,
        vocab=vocab,
    )


def _folder_name(version: Version, kind: str) -> str:
    return f"{kind}-{version.md5(kind).removesuffix('.dir')}"


def _restore_out(root: Path, folder: Path, version: Version, kind: str) -> Path:
    """Restore one output folder of the version from DVC's cache or a remote."""
    out = folder / _folder_name(version, kind)
    cache.materialize(root, version.md5(kind), out)
    return out


def _label(version: Version) -> str:
    return f"{version.run} (version {version.version})"


def _attach(
    root: Path, version: Version, champion: Version | None, decision: promotion.Decision
) -> None:
    """Keep the decision among the artifacts of the challenger's MLflow run."""
    opponent = f"version-{champion.version}" if champion else "nobody"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "gate" / opponent
        folder.mkdir(parents=True)
        (folder / "decision.md").write_text(decision.markdown(), encoding="utf-8")
        (folder / "decision.json").write_text(decision.json(), encoding="utf-8")
        registry.log_artifacts(root, version, Path(scratch))


def _pair(settings: rules.Settings, champion: Version, version: Version) -> str:
    """Identify the two versions and all settings that their p-value depends on."""
    parts = [champion.digest, version.digest, settings.test, settings.resamples, settings.seed]
    return json.dumps(parts)


def _key(
    root: Path,
    champion: Version | None,
    version: Version,
    baseline: promotion.Contender | None = None,
) -> str:
    """Hash all that the decision on these two versions depends on."""
    parts = [
        champion.digest if champion else None,
        version.digest,
        asdict(rules.load(root / FILE)),
        config.section(root / "params.yaml", "evaluation"),
        baseline.identity() if baseline else None,
    ]
    corpora = config.section(root / "params.yaml", "corpora")
    tokenizer = corpora.get(version.corpus, {}).get("bleu_tokenizer", params.AUTO)
    # Not `auto`: decisions of older versions keep their keys.
    parts += [] if tokenizer == params.AUTO else [tokenizer]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
