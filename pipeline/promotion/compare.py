"""A challenger against the champion: asked, compared on every test set, and decided on."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import config, params
from pipeline.core.atomic import exclusive
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


def challenge(
    root: Path,
    champion: Contender | None,
    challenger: Contender,
    tokens: Mapping[str, Path],
    settings: Settings,
    work: Path,
    launch: Launch | None = None,
) -> Decision:
    """Decide whether the challenger takes the champion's place, by the rule of `decision.py`;
    promote nothing.

    `tokens` gives each test set's folder of token tables by its name: the champion's own first;
    last, if it differs, that of the corpus which the challenger was trained on. `work` keeps what
    both answered. `launch` runs a stage's command in the folder `root`, in one of several threads;
    None: as a child of this process. What cannot be compared is not promoted, with the reason. A
    stage that breaks down raises UserError with its log."""
    contest = _ChallengerEvaluation.of(champion, challenger, settings)
    if champion is None:
        return contest.decision(
            True, f"there is no champion of {contest.task} on {contest.corpus} that it had to beat"
        )
    if champion.identity() == challenger.identity():
        return contest.decision(
            False, "nothing changed: weights, vocabulary and search are the champion's"
        )
    if (task := champion.block().task) != contest.task:
        return contest.decision(
            False, f"a model for {contest.task} cannot be compared with one for {task}"
        )
    ways = (
        retokenize.read_tokenization(champion.vocab),
        retokenize.read_tokenization(challenger.vocab),
    )
    work.mkdir(parents=True, exist_ok=True)
    try:
        align_scores.check_comparable(contest.task, *ways)
        with exclusive(work / "lock"):
            judging = ScoringSettings.of(champion, challenger, list(tokens.values())[-1])
            answered = run_stages(root, (champion, challenger), tokens, judging, work, launch)
            return contest.held(tokens, answered, ways)
    except Incomparable as why:
        return contest.decision(False, f"the two cannot be compared: {why}")


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
        lowercase = all(describe(one.vocab).lowercase for one in (champion, challenger) if one)
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

    def held(
        self,
        tokens: Mapping[str, Path],
        answered: Mapping[str, Sequence[StageOutputs]],
        ways: Sequence[Tokenization],
    ) -> Decision:
        """The decision after a comparison on every test set."""
        folders, distinct = list(tokens.values()), _unlike(tokens)
        trained = (folders[0], folders[-1])
        matched = {
            name: align_scores.align(self.scoring, self.task, answered[name], folder, trained)
            for name, folder in distinct.items()
        }
        contest = self.fitting(matched.values())

        found, shown = (
            [],
            list(sample_pairs(*(one.predictions for one in answered[list(tokens)[-1]]))),
        )
        for name, folder in distinct.items():
            both, notes = (
                matched[name],
                [note for contender in answered[name] for note in contender.notes()],
            )
            found.append(contest.compared(name, folder, both, ways, notes))
            predicted = [one.predictions for one in answered[name]]
            shown += largest_changes(
                self.task, contest.scoring, both.splits[TEST], folder, name, *predicted
            )
        corrected = holm([one.p for one in found])
        compared = [
            dataclasses.replace(one, corrected=p) for one, p in zip(found, corrected, strict=True)
        ]
        promote, reasons = decide(compared, self.settings.level, contest.scoring.difference)
        return contest.decision(promote, *reasons, compared=tuple(compared), shown=tuple(shown))

    def fitting(self, matched: Iterable[AlignedScores]) -> "_ChallengerEvaluation":
        """The contest by another score on all test sets, if on one of them this score is the same
        for all answers."""
        for both in matched:
            scoring, reason = self.scoring.fitting(both.splits[TEST].champion)
            if reason:
                return dataclasses.replace(self, scoring=scoring, substituted=reason)
        return self

    def compared(
        self,
        name: str,
        folder: Path,
        both: AlignedScores,
        ways: Sequence[Tokenization],
        notes: Sequence[str],
    ) -> Comparison:
        """Both on the test set called `name`, with the notes of its evaluation; `corrected` is not
        corrected yet."""
        scoring, settings, test = self.scoring, self.settings, both.splits[TEST]
        one, other = scoring.units(test.champion), scoring.units(test.challenger)
        bootstrap = Bootstrap.of(self.evaluation, self.corpus, TEST)
        low, high = bootstrap.interval(
            significance.resampled_differences(one, other, scoring.score, bootstrap)
        )
        difference = significance.score_difference(one, other, scoring.score)
        seed = derive(settings.seed, f"gate/{self.task}/{self.corpus}/{name}")
        p = significance.p_value(
            settings.test,
            one,
            other,
            scoring.score,
            scoring.higher_is_better,
            settings.resamples,
            seed,
        )
        spelt = _SPELT if align_scores.spells_out_words(self.task, *ways) else ""
        asked = GuardInput(
            scoring,
            self.lowercase,
            both.splits,
            both.covered,
            align_scores.likelihood_mismatch(self.task, *ways),
        )
        return Comparison(
            name=name,
            digest=retokenize.md5(retokenize.test_set_files(folder)),
            rows=len(test.champion),
            left_out=both.left_out,
            champion=ScoreEstimate(**bootstrap.estimate(one, scoring.score)),
            challenger=ScoreEstimate(**bootstrap.estimate(other, scoring.score)),
            difference=ScoreEstimate(score=difference, low=low, high=high),
            better=(difference > 0) if scoring.higher_is_better else (difference < 0),
            p=p,
            corrected=p,
            guards=check_guards(asked, settings.guards[self.task]),
            notes=tuple(dict.fromkeys(filter(None, (spelt, self.substituted, *notes)))),
        )

    def decision(
        self,
        promote: bool,
        *reasons: str,
        compared: tuple[Comparison, ...] = (),
        shown: tuple[SamplePair, ...] = (),
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
            samples=shown,
        )


def _unlike(tokens: Mapping[str, Path]) -> dict[str, Path]:
    """Of test sets with the same rows the first: twice the same is no more proof, and should not be
    corrected for."""
    first: dict[str, str] = {}
    for name, folder in tokens.items():
        first.setdefault(retokenize.md5(retokenize.test_set_files(folder)), name)
    return {name: tokens[name] for name in first.values()}


_SPELT = (
    "the vocabularies differ, so that a word which a vocabulary lacks costs a model its letters "
    "too: likelihoods are those "
    "of the whole text"
)
