"""Evaluation of a challenger against the champion: predictions, a test on every test set, a
decision."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import config, params
from pipeline.core.locks import file_lock
from pipeline.core.seeding import derive
from pipeline.promotion import align_scores, baselines, retokenize
from pipeline.promotion.align_scores import AlignedScores
from pipeline.promotion.alpha_spending import Allocation, Ledger, TestSet, Uncounted
from pipeline.promotion.contenders import (
    BASELINE,
    Contender,
    ScoringSettings,
    StageOutputs,
    run_stages,
)
from pipeline.promotion.decision import Comparison, Decision, SamplePair, ScoreEstimate, decide
from pipeline.promotion.guards import GuardInput, check_guards
from pipeline.promotion.one_sided_significance import (
    p_value,
    resampled_differences,
    score_difference,
)
from pipeline.promotion.retokenize import TEST, Incomparable, Tokenization
from pipeline.promotion.samples import largest_changes, sample_pairs
from pipeline.promotion.settings import Settings
from pipeline.promotion.stage_commands import Launch
from pipeline.scoring.significance import Array, Bootstrap, holm
from pipeline.scoring.tasks import Scoring
from pipeline.scoring.tasks import promotion as promotion_rules
from pipeline.text.encode import describe

_SPELLED_OUT = (
    "the vocabularies differ, so that a word outside of a vocabulary costs a model its letters "
    "too: likelihoods are those of the whole text"
)
_SPENT = "the level of this test set is spent, so that only its guards count"
_FEW = 2_000  # resamples that show that a p-value is above _CLEARLY_HIGH
_CLEARLY_HIGH = 0.1


def challenge(
    root: Path,
    champion: Contender | None,
    challenger: Contender,
    tokens: Mapping[str, Path],
    settings: Settings,
    work: Path,
    launch: Launch | None = None,
    ledger: Ledger | None = None,
    baseline: Contender | None = None,
) -> Decision:
    """Decide by the rule of `decision.py` whether the challenger replaces the champion.

    Promotes nothing. `tokens` maps the name of each test set to its folder of token tables. The
    champion's test set is first; that of the challenger's corpus is last, if it differs. `work`
    caches the outputs of both. `launch` runs the command of a stage in the folder `root`, in one of
    several threads; None runs it as a child of this process. `ledger` has the level of this
    challenge, which is spent before the test; None counts nothing. `baseline` is a run that a
    champion must beat.

    A challenger that cannot be compared is not promoted, and the decision has the reason. A stage
    that fails raises UserError with its log; so does a params file by which no test score may be
    computed."""
    params.require_test(challenger.params)
    decision = _against_champion(
        root, champion, challenger, tokens, settings, work, launch, ledger or Uncounted(settings)
    )
    if baseline is None or not decision.promote:
        return decision

    name, folder = list(tokens.items())[-1]
    result = baselines.compare(root, baseline, challenger, name, folder, work / BASELINE, launch)
    reasons = (baselines.reason(result, decision.measure), *decision.reasons)
    return dataclasses.replace(decision, promote=result.beaten, reasons=reasons, baseline=result)


def _against_champion(
    root: Path,
    champion: Contender | None,
    challenger: Contender,
    tokens: Mapping[str, Path],
    settings: Settings,
    work: Path,
    launch: Launch | None,
    ledger: Ledger,
) -> Decision:
    """`challenge` without a baseline."""
    evaluation = _ChallengerEvaluation.of(champion, challenger, settings)

    # Cases that need no comparison.
    if champion is None:
        reason = (
            f"there is no champion of {evaluation.task} on {evaluation.corpus} that it had to beat"
        )
        return evaluation.decision(True, reason)
    if champion.identity() == challenger.identity():
        return evaluation.decision(
            False, "nothing changed: weights, vocabulary and search are the champion's"
        )
    task = champion.block().task
    if task != evaluation.task:
        reason = f"a model for {evaluation.task} cannot be compared with one for {task}"
        return evaluation.decision(False, reason)

    contenders = (champion, challenger)
    tokenizations = [retokenize.read_tokenization(contender.vocab) for contender in contenders]
    work.mkdir(parents=True, exist_ok=True)
    try:
        align_scores.check_comparable(evaluation.task, *tokenizations)
        allocation = ledger.quote(list(evaluation.test_sets(tokens).values()))
        if allocation.is_spent:
            return evaluation.decision(False, allocation.reason)
        with file_lock(work / "lock"):
            scoring = ScoringSettings.of(champion, challenger, list(tokens.values())[-1])
            outputs = run_stages(root, contenders, tokens, scoring, work, launch)
            return evaluation.run(tokens, outputs, tokenizations, ledger)
    except Incomparable as error:
        return evaluation.decision(False, f"the two cannot be compared: {error}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _ChallengerEvaluation:
    """Settings of a comparison that are the same for every test set."""

    champion: str | None
    challenger: str
    task: str
    corpus: str
    scoring: Scoring
    substituted: str  # the reason why `scoring` is not the task's, or ""
    lowercase: bool
    evaluation: params.Evaluation
    settings: Settings

    @classmethod
    def of(
        cls, champion: Contender | None, challenger: Contender, settings: Settings
    ) -> "_ChallengerEvaluation":
        """Text is scored without regard to case only if neither contender ever writes a capital."""
        block = challenger.block()
        module = config.named_module(
            "pipeline.scoring.tasks", block.task, f"runs.{challenger.run}.task"
        )
        contenders = [challenger] if champion is None else [champion, challenger]
        lowercase = all(describe(contender.vocab).lowercase for contender in contenders)

        return cls(
            champion=champion.label if champion else None,
            challenger=challenger.label,
            task=block.task,
            corpus=block.corpus,
            scoring=module.scoring(lowercase),
            substituted="",
            lowercase=lowercase,
            evaluation=params.evaluation(challenger.params),
            settings=settings,
        )

    def run(
        self,
        tokens: Mapping[str, Path],
        outputs: Mapping[str, Sequence[StageOutputs]],
        tokenizations: Sequence[Tokenization],
        ledger: Ledger,
    ) -> Decision:
        """Compare the two on every test set and decide."""
        # The first test set is of the champion's corpus, the last of the challenger's.
        folders = list(tokens.values())
        test_sets = self.test_sets(tokens)
        trained = (folders[0], folders[-1])
        scores = {
            name: align_scores.align(self.scoring, self.task, outputs[name], tokens[name], trained)
            for name in test_sets
        }
        evaluation = self.with_usable_score(scores.values())

        # The level is spent before any p-value exists: a killed challenge has had its chance.
        allocation = ledger.reserve(list(test_sets.values()))

        # Sample sentences were predicted with each test set; the last is the challenger's corpus.
        samples = list(sample_pairs(*(stage.predictions for stage in outputs[list(tokens)[-1]])))
        comparisons = []
        for name, test_set in test_sets.items():
            folder = tokens[name]
            notes = [note for contender in outputs[name] for note in contender.notes()]
            comparisons.append(
                evaluation.compare(name, test_set, scores[name], tokenizations, allocation, notes)
            )
            samples += largest_changes(
                self.task,
                evaluation.scoring,
                scores[name].splits[TEST],
                folder,
                name,
                *(contender.predictions for contender in outputs[name]),
            )

        # Holm's correction (1979) for the number of test sets.
        corrected = iter(holm([one.p for one in comparisons if one.p is not None]))
        comparisons = [
            one if one.p is None else dataclasses.replace(one, corrected=next(corrected))
            for one in comparisons
        ]
        promote = False
        reasons: tuple[str, ...] = ()
        if not allocation.is_spent:  # in the meantime, by another challenge
            promote, reasons = decide(comparisons, allocation.level, evaluation.scoring.difference)
        return evaluation.decision(
            promote,
            *reasons,
            allocation.reason,
            allocation=allocation,
            compared=tuple(comparisons),
            samples=tuple(samples),
        )

    def test_sets(self, tokens: Mapping[str, Path]) -> dict[str, TestSet]:
        """The test sets by name, without those whose rows an earlier one has.

        A duplicate is no further evidence, and must not count in Holm's correction."""
        by_digest: dict[str, tuple[str, Path]] = {}
        for name, folder in tokens.items():
            digest = retokenize.md5(retokenize.test_set_files(folder))
            by_digest.setdefault(digest, (name, folder))

        has_splits = promotion_rules(self.task).has_splits
        return {
            name: TestSet.of(digest, retokenize.test_set_rows(folder, has_splits))
            for digest, (name, folder) in by_digest.items()
        }

    def with_usable_score(self, scores: Iterable[AlignedScores]) -> "_ChallengerEvaluation":
        """Return the evaluation with a substitute score if the task's own is degenerate.

        A score is degenerate if it has the same value for all predictions of a test set. The
        substitute is used on every test set."""
        for aligned in scores:
            scoring, reason = self.scoring.select_scoring(aligned.splits[TEST].champion)
            if reason:
                return dataclasses.replace(self, scoring=scoring, substituted=reason)
        return self

    def compare(
        self,
        name: str,
        test_set: TestSet,
        scores: AlignedScores,
        tokenizations: Sequence[Tokenization],
        allocation: Allocation,
        notes: Sequence[str],
    ) -> Comparison:
        """Compare the two on the test set `name`; `notes` are those of the evaluate stage.

        The p-value is not corrected yet: `corrected` equals `p`."""
        scoring = self.scoring
        settings = self.settings
        test = scores.splits[TEST]
        champion_NK = scoring.units(test.champion)
        challenger_NK = scoring.units(test.challenger)

        # Bootstrap interval of the difference; both are scored on the same resamples.
        bootstrap = Bootstrap.of(self.evaluation, self.corpus, TEST)
        low, high = bootstrap.interval(
            resampled_differences(champion_NK, challenger_NK, scoring.score, bootstrap)
        )
        difference = score_difference(champion_NK, challenger_NK, scoring.score)

        # A test set whose level is spent has its guards only.
        p = None
        spent = _SPENT
        if test_set.digest in allocation.test_sets:
            p = self.p_value(name, champion_NK, challenger_NK, allocation.level)
            spent = ""

        spelled = _SPELLED_OUT if align_scores.spells_out_words(self.task, *tokenizations) else ""
        guard_input = GuardInput(
            scoring,
            self.lowercase,
            scores.splits,
            scores.coverage,
            align_scores.likelihood_mismatch(self.task, *tokenizations),
        )
        return Comparison(
            name=name,
            digest=test_set.digest,
            rows=len(test.champion),
            units=len(champion_NK),
            left_out=scores.left_out,
            champion=ScoreEstimate(**bootstrap.estimate(champion_NK, scoring.score)),
            challenger=ScoreEstimate(**bootstrap.estimate(challenger_NK, scoring.score)),
            difference=ScoreEstimate(score=difference, low=low, high=high),
            better=(difference > 0) if scoring.higher_is_better else (difference < 0),
            p=p,
            corrected=p,
            guards=check_guards(guard_input, settings.guards[self.task]),
            notes=tuple(dict.fromkeys(filter(None, (spent, spelled, self.substituted, *notes)))),
        )

    def p_value(self, name: str, champion_NK: Array, challenger_NK: Array, level: float) -> float:
        """The p-value on the test set `name`; one that is far above the level needs few resamples.

        It stays valid up to the level: a p-value below it always has all resamples."""
        scoring = self.scoring
        # A seed of its own for each test set; the same in every repetition of the comparison.
        seed = derive(self.settings.seed, f"gate/{self.task}/{self.corpus}/{name}")
        p = 0.0
        for resamples in sorted({min(_FEW, self.settings.resamples), self.settings.resamples}):
            p = p_value(
                self.settings.test,
                champion_NK,
                challenger_NK,
                scoring.score,
                scoring.higher_is_better,
                resamples,
                seed,
            )
            if p > max(_CLEARLY_HIGH, 2 * level):
                break
        return p

    def decision(
        self,
        promote: bool,
        *reasons: str,
        allocation: Allocation | None = None,
        compared: tuple[Comparison, ...] = (),
        samples: tuple[SamplePair, ...] = (),
    ) -> Decision:
        """The record of a decision."""
        return Decision(
            promote=promote,
            reasons=reasons,
            champion=self.champion,
            challenger=self.challenger,
            task=self.task,
            corpus=self.corpus,
            measure=self.scoring.difference,
            test=self.settings.test,
            level=allocation.level if allocation else self.settings.share,
            allocation=allocation,
            resamples=self.settings.resamples,
            compared=compared,
            baseline=None,
            samples=samples,
        )
