"""The `seqline` command: thin, over the library and `dvc.yaml`. What a subcommand needs is imported
when it runs."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.cli import input_text
from pipeline.core.errors import exit_with, printable, refuse
from pipeline.core.loopback import bypass_proxies
from pipeline.flow import MOST_JOBS
from pipeline.texts import checked_text

_JOBS = input_text.whole_number(1, MOST_JOBS)
_PORT = input_text.whole_number(1, 65_535)
_VERSION = input_text.whole_number(1, 2**31 - 1)  # the registry's database has 32 bits for it
_SEED = input_text.whole_number(-(2**63), 2**63 - 1)
_N_BEST = input_text.whole_number(1, 2**63 - 1)  # the run's search says how many it can give

Do = Callable[[Path, argparse.Namespace], None]
Add = Callable[[str, Do, str], argparse.ArgumentParser]


def main() -> None:
    """The console script: 0, or one line on stderr and 2 for a user's mistake, or 130 after
    Ctrl-C."""
    input_text.prepare_output()
    try:
        exit_with(_command)
    except KeyboardInterrupt:
        sys.exit(130)


def _command() -> None:
    bypass_proxies()
    arguments = _parser().parse_args(input_text.arguments(sys.argv[1:]))
    arguments.do(_root(Path.cwd()), arguments)


def _root(start: Path) -> Path:
    """The project that `start` lies in."""
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").exists() and (folder / "presets").is_dir():
            return folder
    raise refuse(
        str(start),
        "a folder outside of a project",
        "one with dvc.yaml and presets/",
        "Change to the project.",
    )


def _parser() -> argparse.ArgumentParser:
    parser = input_text.Parser(
        prog="seqline", description="Train and compare every classic family of sequence model."
    )
    adding = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, do: Do, about: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = adding.add_parser(name, help=about, description=about)
        made.set_defaults(do=do)
        return made

    _add_settings(add)
    _add_flows(add)
    _add_history(add)
    _add_trials(add)
    return parser


def _add_settings(add: Add) -> None:
    """Stages to run, and the state of the project."""
    use = add("use", _use, "put a preset in params.yaml; without a name, list them")
    use.add_argument("preset", nargs="?", metavar="PRESET")
    use.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="a dotted key; * fits any",
    )
    use.add_argument(
        "--force", action="store_true", help="even if params.yaml has edits that are in no commit"
    )
    add(
        "check",
        _check,
        "read all of params.yaml as strictly as the stages will, before anything runs",
    )
    add(
        "prune",
        _prune,
        (
            "remove outputs of runs that params.yaml no longer has, which DVC's cache keeps, and "
            "old logs and states"
        ),
    )
    add(
        "repair",
        _repair,
        "repair what a kill or a power cut left damaged in DVC's lock, cache and databases",
    )
    add(
        "doctor",
        _doctor,
        "what is installed, which devices there are, whether store, cache and mirror are healthy",
    )


def _add_flows(add: Add) -> None:
    """The DAG and retraining, by Prefect."""
    run = add(
        "run",
        _run,
        (
            "the DAG with stages beside one another, as a Prefect flow; `dvc repro` for one after "
            "another"
        ),
    )
    run.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="a stage, or a group such as train; with all it needs",
    )
    run.add_argument(
        "--jobs",
        type=_JOBS,
        metavar="N",
        help="stages at a time; as many as there are cores, if not given",
    )
    retrain = add(
        "retrain", _retrain, "take over new data, train, and promote what is significantly better"
    )
    retrain.add_argument(
        "--jobs",
        type=_JOBS,
        metavar="N",
        help="stages at a time; as many as there are cores, if not given",
    )
    schedule = add("schedule", _schedule, "retrain at set times, or when data change, until Ctrl-C")
    when = schedule.add_mutually_exclusive_group()
    when.add_argument(
        "--cron", metavar="LINE", help="as cron has it, in this machine's time zone: '0 3 * * *'"
    )
    when.add_argument("--interval", metavar="TIME", help="90, 15m, 2h or 1d")
    schedule.add_argument(
        "--on-data-change",
        action="store_true",
        help="also, or only, when a source that is not pinned has",
    )
    schedule.add_argument(
        "--every", metavar="TIME", default="60", help="between two looks at the sources; else 60 s"
    )
    schedule.add_argument("--jobs", type=_JOBS, metavar="N", help="as for `seqline retrain`")
    add(
        "status",
        _status,
        "the last retraining, the next one, what failed or was missed, and who is champion",
    )
    renew = add(
        "refresh",
        _refresh,
        "take over anew your own files, and others not pinned, where they have changed",
    )
    renew.add_argument(
        "--emit",
        action="store_true",
        help="take over nothing: tell Prefect's server what has changed",
    )


def _add_history(add: Add) -> None:
    """MLflow's history, and the champions in its registry."""
    add("sync", _sync, "bring MLflow level with DVC's outputs")
    ui = add("ui", _ui, "MLflow's pages on the project's own store")
    ui.add_argument("--port", type=_PORT, metavar="N", default=5000)
    compare = add(
        "compare",
        _compare,
        "whether one trained run would take another's place, and why; promotes nothing",
    )
    compare.add_argument("champion", metavar="RUN", help="a name under `runs:`: the one to beat")
    compare.add_argument(
        "challenger", metavar="RUN", help="another one, of the same task and corpus"
    )
    promote = add(
        "promote",
        _promote,
        "make a run's present outputs, or a version, champion of its task on its corpus",
    )
    promote.add_argument("what", metavar="RUN|MODEL")
    promote.add_argument(
        "version", nargs="?", type=_VERSION, metavar="VERSION", help="of the registered MODEL"
    )
    promote.add_argument("--why", metavar="TEXT", help="kept with the promotion")
    rollback = add("rollback", _rollback, "make the champion before the present one champion again")
    rollback.add_argument(
        "model", metavar="MODEL", help="a registered model, as `seqline champions` lists them"
    )
    champions = add("champions", _champions, "the champion of each task on each corpus")
    champions.add_argument("--history", action="store_true", help="those before it too")
    champions.add_argument(
        "--of",
        metavar="PATH|MD5",
        help="the versions that a file or folder went into or came out with",
    )
    serve = add("serve", _serve, "answer over HTTP with a version, by default the champion")
    serve.add_argument("model", metavar="MODEL[@ALIAS|/VERSION]")
    serve.add_argument("--port", type=_PORT, metavar="N", default=5001)
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="answer to this name too, such as a proxy's",
    )


def _add_trials(add: Add) -> None:
    """A trained run, tried by hand."""
    translate = add(
        "translate",
        _translate,
        "translate a text, or each line of standard input, with a trained run",
    )
    translate.add_argument("text", nargs="?", metavar="TEXT")
    translate.add_argument(
        "--run",
        action="append",
        required=True,
        dest="runs",
        help="a name under `runs:`; given again, an ensemble",
    )
    translate.add_argument("--prefix", metavar="TEXT", help="what every answer begins with")
    translate.add_argument(
        "--heatmap", type=Path, metavar="FILE.png", help="draw where the model looked"
    )
    translate.add_argument(
        "--n-best",
        type=_N_BEST,
        metavar="N",
        help="show the N best answers with their log-probabilities",
    )
    generate = add("generate", _generate, "let a trained language model go on from a prefix")
    generate.add_argument("prefix", metavar="PREFIX")
    generate.add_argument("--run", required=True, help="a name under `runs:`")
    generate.add_argument("--seed", type=_SEED, metavar="N", help="another seed, another text")
    classify = add(
        "classify", _classify, "label a text, or each line of standard input, with a trained run"
    )
    classify.add_argument("text", nargs="?", metavar="TEXT")
    classify.add_argument("--run", required=True, help="a name under `runs:`")


def _use(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import presets

    if arguments.preset is None:
        _print(presets.listing(root))
        return
    gone = presets.use(root, arguments.preset, arguments.changes, arguments.force)
    print(
        f"params.yaml is now the preset {arguments.preset}"
        + "".join(f"\n  {change}" for change in arguments.changes)
    )
    _tell_removed(root, gone)


def _run(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.dag import project
    from pipeline.flow import run_command

    project.check(root)
    sys.exit(run_command.run(root, arguments.targets, arguments.jobs))


def _retrain(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.dag import project
    from pipeline.flow import retrain_command

    project.check(root)
    sys.exit(retrain_command.retrain(root, arguments.jobs))


def _schedule(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.dag import project
    from pipeline.flow import prefect_server

    project.check(root)
    prefect_server.quiet()
    from pipeline.flow import schedule

    a = arguments
    schedule.serve(root, schedule.terms(a.cron, a.interval, a.on_data_change, a.every, a.jobs))


def _status(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.flow import status

    lines, well = status.report(root)
    _print("\n".join(f"{subject:13}{detail}" for subject, detail in lines))
    sys.exit(0 if well else 1)


def _refresh(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.dag import refresh
    from pipeline.dag.project_lock import alone

    if arguments.emit:
        found = refresh.look(root)
    else:
        with alone(root, wait=False):  # not under the hands of a flow
            found = refresh.refresh(root)
    print("".join(f"{trouble}\n" for trouble in found.troubles), end="", file=sys.stderr)
    names = ", ".join(found.changed)
    if not found.changed:
        print("no corpus's own files have changed, nor others that are not pinned")
    elif arguments.emit:
        from pipeline.flow import prefect_server

        prefect_server.quiet()
        from pipeline.flow import events

        events.tell(root, found.changed)
        print(
            f"told Prefect's server: {names} changed in "
            f"{events.resource(events.deployment_name(root))}"
        )
    else:
        print(f"taken over anew: {names}; now `dvc repro`")


def _prune(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import prune

    _tell_removed(root, prune.remove_outputs(root))
    unused = prune.remove_unused(root)
    if unused:
        print(
            f"removed {len(unused)} leftovers that nothing has changed in for "
            f"{prune.UNUSED_DAYS} days:"
        )
        print("\n".join(f"  {path.relative_to(root)}" for path in unused))


def _tell_removed(root: Path, gone: list[Path]) -> None:
    if gone:
        print(
            f"removed {len(gone)} outputs of runs and corpora it does not have; DVC's cache "
            "keeps what it held of them:"
        )
        print("\n".join(f"  {path.relative_to(root)}" for path in gone))


def _check(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import check
    from pipeline.dag import project

    project.check(root)
    print(check.check(root / "params.yaml"))


def _repair(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.dag import repair

    for line in repair.repair(root):
        print(line)


def _doctor(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import doctor

    findings = doctor.examine(root)
    _print(
        "\n".join(f"{finding.state:5} {finding.subject}: {finding.detail}" for finding in findings)
    )
    sys.exit(1 if any(finding.state == "FAIL" for finding in findings) else 0)


def _sync(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline import tracking

    print(tracking.sync(root))


def _ui(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline import tracking

    tracking.ui(root, arguments.port)


def _promote(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import champions

    _print(champions.promote(root, arguments.what, arguments.version, arguments.why))


def _rollback(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import champions

    _print(champions.rollback(root, arguments.model))


def _champions(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import champions

    _print(
        champions.table(root, arguments.history)
        if arguments.of is None
        else champions.of(root, arguments.of)
    )


def _serve(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline import tracking

    tracking.model(root, arguments.model, arguments.port, arguments.allow_host)


def _print(text: str) -> None:
    """Print lines with names and labels from outside, whose control characters are escaped."""
    print("\n".join(printable(line) for line in text.split("\n")))


def _translate(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import infer

    session = infer.together(root, arguments.runs)
    infer.translate(
        session,
        input_text.texts(arguments.text),
        arguments.n_best,
        arguments.prefix,
        arguments.heatmap,
    )


def _generate(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import infer

    prefix = checked_text(arguments.prefix, "PREFIX")
    print(printable(infer.opened(root, arguments.run).generate([prefix], arguments.seed)[0]))


def _classify(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import infer

    infer.classify(root, arguments.run, input_text.texts(arguments.text))


def _compare(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import compare

    if sys.stderr.isatty():
        print(
            "both are asked anew, unless they have been: for small models a matter of seconds",
            file=sys.stderr,
        )
    _print(compare.compare(root, arguments.champion, arguments.challenger).markdown().rstrip("\n"))
