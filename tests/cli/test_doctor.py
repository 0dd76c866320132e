"""`seqline doctor`: what it says to do, in which order, and for scripts."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.cli import health_checks
from pipeline.core import state_dir
from pipeline.core.locks import owned_lock

Finding = health_checks.Finding
DVC_CHECKS = ("dvc", "cache", "lock")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks of DVC without a process of DVC."""
    for name in DVC_CHECKS:
        finding = Finding("ok", name, "in order")
        monkeypatch.setattr(health_checks, name, lambda root, finding=finding: finding)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("SEQLINE_MIRROR", raising=False)


@pytest.mark.usefixtures("quick")
def test_each_problem_has_a_line_with_what_to_do(project, seqline, monkeypatch) -> None:
    monkeypatch.setenv("SEQLINE_MIRROR", str(project / "nowhere"))
    result = seqline(project, "doctor")
    assert result.status == 1
    lines = result.out.splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith("FAIL  mirror: ")]
    assert lines[at + 1] == (
        "      To do: Correct SEQLINE_MIRROR, or unset it to download from the corpora's own "
        "addresses."
    )
    assert lines[-1].startswith("1 FAIL")


@pytest.mark.usefixtures("quick")
def test_findings_for_scripts_are_those_of_the_lines(
    project, seqline, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(project)  # other programs change it between the two commands
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    lines = seqline(project, "doctor").out.splitlines()
    result = seqline(project, "doctor", "--json")
    content = json.loads(result.out)
    assert content["healthy"] == (result.status == 0)
    shown = [
        f"{item['state']:5} {item['subject']}: {item['detail']}" for item in content["findings"]
    ]
    assert shown == [line for line in lines[:-1] if not line.startswith("      To do: ")]


@pytest.mark.usefixtures("quick")
def test_damage_is_repaired_before_dvc_reads_it(project, monkeypatch) -> None:
    order = []

    def check(name: str) -> None:
        def run(root: Path) -> health_checks.Finding:
            order.append(name)
            return Finding("ok", name, "")

        monkeypatch.setattr(health_checks, name, run)

    for name in ("repairs", *DVC_CHECKS):
        check(name)
    subjects = [finding.subject for finding in health_checks.run_checks(project)]
    assert order[0] == "repairs"
    assert sorted(order[1:]) == sorted(DVC_CHECKS)
    assert tuple(subjects[-3:]) == DVC_CHECKS


@pytest.mark.parametrize(
    ("status", "output", "state", "part"),
    [
        (0, "{}", "ok", "up to date"),
        (0, '{"report": []}', "warn", "1 stage has changed: report"),
        (0, '{"train@a": [], "report": []}', "warn", "2 stages have changed: train@a, report"),
        (
            0,
            json.dumps({f"train@{number}": [] for number in range(9)}),
            "warn",
            "train@4 and 4 more",
        ),
        (1, "ERROR: failed to get status - Unable to acquire lock.", "warn", "another dvc"),
        (1, "ERROR: './dvc.yaml' is invalid.", "FAIL", "dvc.yaml"),
        (1, "", "FAIL", "ended with 1"),
    ],
)
def test_changed_stages_are_named(
    status: int, output: str, state: str, part: str, project, monkeypatch
) -> None:
    monkeypatch.setattr(health_checks, "run_command", lambda root, *words: (status, output))
    finding = health_checks.lock(project)
    assert finding.state == state
    assert part in finding.detail


def test_stages_are_not_looked_at_while_a_flow_changes_them(project, monkeypatch) -> None:
    monkeypatch.setattr(health_checks, "run_command", None)
    with owned_lock(project / state_dir.FLOW_LOCK, wait=False):
        finding = health_checks.lock(project)
    assert (finding.state, "a flow is at work" in finding.detail) == ("ok", True)


def test_a_gpu_that_torch_cannot_use_is_a_warning(project, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    finding = health_checks.devices(project)
    assert finding.state == "warn"
    assert "cannot use 2 GPUs" in finding.detail
    assert "CUDA" in finding.todo
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert health_checks.devices(project).state == "ok"


def test_the_patched_dvc_names_changed_stages(repository: Path) -> None:
    """Of a DAG that has never run: all of them."""
    words = health_checks._dvc_command(repository)
    assert words == (sys.executable, "-m", "pipeline.dag.durable_dvc")
    finding = health_checks.lock(repository)
    assert finding.state == "warn"
    assert re.match(r"\d+ stages? ha(s|ve) changed: \w+", finding.detail), finding
