"""Evaluation of a challenger against the champion: predictions, a test on every test set, a
decision."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import config, params
from pipeline.core.locks import file_lock
from pipeline.core.seeding import derive
from pipeline.promotion import align_scores, retokenize, significance
from pipeline.promotion.align_scores import AlignedScores
from pipeline.promotion.contenders import Contender, ScoringSettings, StageOutputs, run_stages
from pipeline.promotion.decision import Comparison, Decision, SamplePair, ScoreEstimate, decide
from pipeline.promotion.guards import GuardInput, check_guards
from pipeline.promotion.retokenize import TEST, Incomparable, Tokenization
from pipeline.promotion.samples import largest_changes, sample_pairs
from pipeline.promotion.settings import Settings
from pipeline.promotion.stage_commands import Launch
from pipeline.scoring.significance import Bootstrap, holm
from pipeline.scoring.tasks import Scoring
from pipeline.text.encode import describe

_SPELLED_OUT = (
    "the vocabularies differ, so that a word outside of a vocabulary costs a model its letters "
    "too: likelihoods are those of the whole text"
)


def challenge(
    root: Path,
    champion: Contender | None,
    challenger: Contender,
    tokens: Mapping[str, Path],
    settings: Settings,
    work: Path,
    launch: Launch | None = None,
) -> Decision:
    """Decide by the rule of `decision.py` whether the challenger replaces the champion.

    Promotes nothing. `tokens` maps the name of each test set to its folder of token tables. The
    champion's test set is first; that of the challenger's corpus is last, if it differs. `work`
    caches the outputs of both. `launch` runs the command of a stage in the folder `root`, in one of
    several threads; None runs it as a child of this process.

    A challenger that cannot be compared is not promoted, and the decision has the reason. A stage
    that fails raises UserError with its log."""
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
        with file_lock(work / "lock"):
            scoring = ScoringSettings.of(champion, challenger, list(tokens.values())[-1])
            outputs = run_stages(root, contenders, tokens, scoring, work, launch)
            return evaluation.run(tokens, outputs, tokenizations)
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
    ) -> Decision:
        """Compare the two on every test set and decide."""
        # The first test set is of the champion's corpus, the last of the challenger's.
        folders = list(tokens.values())
        test_sets = _drop_duplicates(tokens)
        trained = (folders[0], folders[-1])
        scores = {
            name: align_scores.align(self.scoring, self.task, outputs[name], folder, trained)
            for name, folder in test_sets.items()
        }
        evaluation = self.with_usable_score(scores.values())

        # Sample sentences were predicted with each test set; the last is the challenger's corpus.
        samples = list(sample_pairs(*(stage.predictions for stage in outputs[list(tokens)[-1]])))
        comparisons = []
        for name, folder in test_sets.items():
            notes = [note for contender in outputs[name] for note in contender.notes()]
            comparisons.append(evaluation.compare(name, folder, scores[name], tokenizations, notes))
            samples += largest_changes(
                self.task,
                evaluation.scoring,
                scores[name].splits[TEST],
                folder,
                name,
                *(contender.predictions for contender in outputs[name]),
            )

        # Holm's correction (1979) for the number of test sets.
        corrected = holm([comparison.p for comparison in comparisons])
        comparisons = [
            dataclasses.replace(comparison, corrected=p)
            for comparison, p in zip(comparisons, corrected, strict=True)
        ]
        promote, reasons = decide(comparisons, self.settings.level, evaluation.scoring.difference)
        return evaluation.decision(
            promote, *reasons, compared=tuple(comparisons), samples=tuple(samples)
        )

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
        folder: Path,
        scores: AlignedScores,
        tokenizations: Sequence[Tokenization],
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
            significance.resampled_differences(champion_NK, challenger_NK, scoring.score, bootstrap)
        )
        difference = significance.score_difference(champion_NK, challenger_NK, scoring.score)

        # A seed of its own for each test set; the same in every repetition of the comparison.
        seed = derive(settings.seed, f"gate/{self.task}/{self.corpus}/{name}")
        p = significance.p_value(
            settings.test,
            champion_NK,
            challenger_NK,
            scoring.score,
            scoring.higher_is_better,
            settings.resamples,
            seed,
        )

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
            digest=retokenize.md5(retokenize.test_set_files(folder)),
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
            notes=tuple(dict.fromkeys(filter(None, (spelled, self.substituted, *notes)))),
        )

    def decision(
        self,
        promote: bool,
        *reasons: str,
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
            level=self.settings.level,
            resamples=self.settings.resamples,
            compared=compared,
            samples=samples,
        )


def _drop_duplicates(tokens: Mapping[str, Path]) -> dict[str, Path]:
    """Keep the first of test sets with the same rows.

    A duplicate is no further evidence, and must not count in Holm's correction."""
    first: dict[str, str] = {}
    for name, folder in tokens.items():
        first.setdefault(retokenize.md5(retokenize.test_set_files(folder)), name)
    return {name: tokens[name] for name in first.values()}
