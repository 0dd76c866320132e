"""The baseline that a champion must beat (`gate.beats_baseline`), scored on the same rows."""

from pathlib import Path

from pipeline.core import config
from pipeline.core.locks import file_lock
from pipeline.promotion import align_scores, retokenize
from pipeline.promotion.contenders import Contender, ScoringSettings, run_stages
from pipeline.promotion.decision import BaselineResult
from pipeline.promotion.guards import corpus_scores
from pipeline.promotion.retokenize import TEST, Incomparable
from pipeline.promotion.stage_commands import Launch
from pipeline.scoring.tasks import Scoring
from pipeline.text.encode import describe


def compare(
    root: Path,
    baseline: Contender,
    challenger: Contender,
    name: str,
    tokens: Path,
    work: Path,
    launch: Launch | None,
) -> BaselineResult:
    """Score both on the test set `name` in the folder `tokens`, of the corpus that both were
    trained on; `work` caches their outputs.

    The challenger must score better. This is no test: the scores are compared as they are. A
    baseline that cannot be compared is not beaten. A stage that fails raises UserError."""
    try:
        if baseline.identity() == challenger.identity():
            raise Incomparable("it is the challenger itself")
        champion_score, challenger_score, higher_is_better = _scores(
            root, (baseline, challenger), name, tokens, work, launch
        )
    except Incomparable as error:
        return BaselineResult(
            name=baseline.label, baseline=None, challenger=None, beaten=False, note=str(error)
        )

    gain = challenger_score - champion_score
    return BaselineResult(
        name=baseline.label,
        baseline=champion_score,
        challenger=challenger_score,
        beaten=gain > 0 if higher_is_better else gain < 0,
        note="",
    )


def reason(result: BaselineResult, measure: str) -> str:
    """The result as a reason for the decision; `measure` is the unit of the scores."""
    if result.baseline is None or result.challenger is None:
        return f"the baseline {result.name} (gate.beats_baseline) is not beaten: {result.note}"
    relation = "better" if result.beaten else "not better"
    return (
        f"{relation} than the baseline {result.name} on the same rows: "
        f"{result.challenger:.4g} against {result.baseline:.4g} (in {measure})"
    )


def _scores(
    root: Path,
    contenders: tuple[Contender, Contender],
    name: str,
    tokens: Path,
    work: Path,
    launch: Launch | None,
) -> tuple[float, float, bool]:
    """Scores of both contenders, and whether higher is better; Incomparable if there are none."""
    task = contenders[0].block().task
    tokenizations = [retokenize.read_tokenization(contender.vocab) for contender in contenders]
    align_scores.check_comparable(task, *tokenizations)

    work.mkdir(parents=True, exist_ok=True)
    with file_lock(work / "lock"):
        common = ScoringSettings.of(*contenders, tokens)
        outputs = run_stages(root, contenders, {name: tokens}, common, work, launch)[name]
        scoring = _scoring(contenders)
        trained = (tokens, tokens)
        pair = align_scores.align(scoring, task, outputs, tokens, trained).splits[TEST]

    scoring, _ = scoring.select_scoring(pair.champion)
    first, second = corpus_scores(pair, scoring)
    return first, second, scoring.higher_is_better


def _scoring(contenders: tuple[Contender, Contender]) -> Scoring:
    """The scoring of their task, without regard to case if neither ever writes a capital."""
    block = contenders[1].block()
    module = config.named_module(
        "pipeline.scoring.tasks", block.task, f"runs.{contenders[1].run}.task"
    )
    scoring: Scoring = module.scoring(
        all(describe(contender.vocab).lowercase for contender in contenders)
    )
    return scoring
