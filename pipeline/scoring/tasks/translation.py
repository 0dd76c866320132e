"""Scores of a translator: BLEU, chrF and TER of its outputs, and the likelihood of the references.

References and outputs are normalized as the corpus normalizes its text, so that the outputs of a
perfect model equal the references: in NFC, with plain spaces, and at the level `word` with
punctuation split off and joined by the same rule."""

import dataclasses
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.scoring import likelihood, mt_metrics
from pipeline.scoring.blocks import by_text
from pipeline.scoring.lengths import curve
from pipeline.scoring.significance import Array, Bootstrap, Score, sum_by_block
from pipeline.scoring.tasks import Column, Inputs, Interface, Promotion, Scoring
from pipeline.scoring.unknown import unknown
from pipeline.text.tokens import Text

_CASED, _LOWERCASED = "bleu", "bleu_lowercase"
_CHRF = (("chrF", "chrf.score", "{:.2f}"), ("chrF, lowercased", "chrf_lowercase.score", "{:.2f}"))
_TER = ("TER", "ter.score", "{:.2f}")
_SHARES = (
    ("empty outputs", "empty", "{:.1%}"),
    ("length ratio", "length_ratio", "{:.3f}"),
    ("bits per character", "bits_per_character", "{:.3f}"),
    ("unknown words", "unknown", "{:.1%}"),
)
_MEANING = (
    "BLEU (0 to 100) counts the n-grams of one to four words that an output shares with the "
    "reference, {}. "
    "`tok` in its signature names the tokenizer that divides texts into words. "
    "chrF does the same for n-grams of characters. "
    "TER counts the edits that turn the output into the reference; lower is better. "
    "Perplexity is that of the reference, where each token is predicted from the ones before it. A "
    "token is a word or, if the corpus has the level bpe, a part of one. "
    "A word that the vocabulary lacks also costs the nats for its letters. "
    "A good perplexity with a bad BLEU points to the search, not to the model. "
    "In built-in corpora BLEU 100 can be reached."
)
_CASE = "with case, after the corpus's own text normalization"
_NO_CASE = (
    "without case, after the corpus's own text normalization, because no model of this corpus "
    "writes capitals"
)


@dataclass(frozen=True, slots=True)
class _Setting:
    """Settings of the scores: `lowercase` ignores case, `tokenizer` is BLEU's, `main` is the score
    that ranks."""

    lowercase: bool
    tokenizer: str
    main: str

    @property
    def bleu(self) -> str:
        """Name of the BLEU that ranks, unless references are too short for it."""
        return _LOWERCASED if self.lowercase else _CASED


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring by BLEU, which ignores case on a lowercased corpus; BLEU of the other case is
    among the further scores.

    If no reference has four tokens, BLEU is 0 for all outputs, and chrF ranks instead.
    """
    # Suffixes of titles for the case that ranks, and for the other case.
    case, other_case = (", lowercased", ", cased") if lowercase else ("", ", lowercased")
    prefix = "lowercased " if lowercase else ""

    bleu, other_bleu = (_LOWERCASED, _CASED) if lowercase else (_CASED, _LOWERCASED)
    by_bleu = _scoring(
        _Setting(lowercase, tokenizer, bleu),
        score=mt_metrics.bleu,
        title=f"BLEU{case}",
        name=f"{prefix}BLEU",
        further=((f"BLEU{other_case}", f"{other_bleu}.score", "{:.2f}"), *_CHRF),
    )

    chrf, other_chrf = ("chrf_lowercase", "chrf") if lowercase else ("chrf", "chrf_lowercase")
    by_chrf = _scoring(
        _Setting(lowercase, tokenizer, chrf),
        score=mt_metrics.chrf,
        title=f"chrF{case}",
        name=f"{prefix}chrF",
        further=(
            (f"BLEU{case}", f"{bleu}.score", "{:.2f}"),
            (f"chrF{other_case}", f"{other_chrf}.score", "{:.2f}"),
        ),
    )
    return dataclasses.replace(by_bleu, substitute=partial(_too_short, by_bleu, by_chrf))


def _scoring(
    setting: _Setting, score: Score, title: str, name: str, further: tuple[Column, ...]
) -> Scoring:
    exact = "exact match, lowercased" if setting.lowercase else "exact match"
    return Scoring(
        schema=tables.SCORES_PAIR,
        rows=partial(_rows, setting),
        summary=partial(_summary, setting),
        by_length=partial(_by_length, setting, score),
        sums=partial(_sums, setting.main),
        units=partial(_units, setting.main),
        score=score,
        higher_is_better=True,
        difference=name,
        main=setting.main,
        main_score=score,
        main_title=title,
        main_name=name,
        scale=(0.0, 100.0),
        columns=(
            ("perplexity", "perplexity.score", "{:.2f}"),
            (f"{title}, distance to limit", "distance", "{:.2f}"),
        ),
        further=(*further, _TER, (exact, "exact_match", "{:.1%}"), *_SHARES),
        title="Translators",
        length="tokens in the source sentence",
        unit="token",
        meaning=_MEANING.format(_NO_CASE if setting.lowercase else _CASE),
        d2l_bleu=True,
    )


def _too_short(by_bleu: Scoring, by_chrf: Scoring, table: pa.Table) -> tuple[Scoring, str] | None:
    """The scoring by chrF and the reason, if every reference is shorter than BLEU's longest
    n-grams."""
    longest = int(mt_metrics.sums_matrix(table[by_bleu.main])[:, 1].max(initial=0))
    if longest >= mt_metrics.ORDERS:
        return None
    reason = (
        f"no reference has {mt_metrics.ORDERS} tokens, so that {by_bleu.main_name} is 0 "
        "whatever the answers"
    )
    return by_chrf, f"{reason}; {by_chrf.main_name} ranks instead"


def _rows(setting: _Setting, inputs: Inputs, split: str) -> pa.Table:
    """The sums of every row; UserError if predictions and references do not match."""
    pairs = tables.read(inputs.tokens / f"{split}.parquet", tables.TOKENS_PAIR).sort_by("row")
    predictions = likelihood.likelihood(inputs.predictions, split, len(pairs))
    unknown_words = unknown(pairs["target_tokens"], inputs.encoded, split, "target")
    outputs = _best_hypotheses(inputs.predictions, split, len(pairs))
    columns = {
        "row": pairs["row"],
        "block": pa.array(by_text(pairs["source"])),
        "length": pc.cast(pc.list_value_length(pairs["source_tokens"]), pa.int32()),
        "nats": pa.array(predictions["nats"].to_numpy() + unknown_words.nats_N),
        "count": predictions["count"],
        "unknown": pa.array(unknown_words.count_N),
        "characters": likelihood.with_ends(pairs["target_characters"]),
    }
    references = pairs["target"].combine_chunks()
    assert inputs.text is not None
    columns |= _output_columns(setting, inputs.text, outputs, references)
    return pa.table(columns, schema=tables.SCORES_PAIR)


def _units(main: str, table: pa.Table) -> Array:
    """units_UK: the sums of the ranking score over the translations of each source."""
    return sum_by_block(_sums(main, table), table["block"].to_numpy())


def _sums(main: str, table: pa.Table) -> Array:
    """sums_NK: the sums of the ranking score for every row."""
    return mt_metrics.sums_matrix(table[main])


def _summary(
    setting: _Setting, table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]
) -> dict[str, Any]:
    """Likelihood, each metric with its interval and signature, and the distance to the limit."""
    block_N = table["block"].to_numpy()
    sums_N3 = np.stack(
        [table[name].to_numpy().astype(np.float64) for name in ("nats", "count", "characters")], 1
    )
    units_U3 = sum_by_block(sums_N3, block_N)
    metrics = likelihood.summary(table, units_U3, bootstrap)
    metrics |= {"rows": len(table), "blocks": len(units_U3)}

    resampled_by_row = bootstrap if len(units_U3) == len(table) else None
    for name, metric in _text_metrics(setting.tokenizer).items():
        estimate = bootstrap.estimate(
            sum_by_block(mt_metrics.sums_matrix(table[name]), block_N), metric.score
        )
        metrics[name] = {**estimate, "signature": metric.signature(resampled_by_row)}
    metrics |= {
        "exact_match": pc.mean(table["exact"]).as_py(),
        "empty": pc.mean(table["empty"]).as_py(),
    }

    # The first two sums of BLEU are the lengths of output and reference.
    length, reference_length = mt_metrics.sums_matrix(table["bleu"])[:, :2].sum(0)
    metrics["length_ratio"] = length / max(reference_length, 1.0)

    if "bleu" in limit:  # 100, which is the limit of the lowercased scores and of chrF too
        distance = limit["bleu"] - metrics[setting.main]["score"]
        metrics |= {"limit": limit["bleu"], "distance": distance}
    return metrics


def _by_length(
    setting: _Setting, score: Score, table: pa.Table, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """The ranking score by the number of tokens in the source."""
    return curve(table, _sums(setting.main, table), score, setting.main, bootstrap)


@cache
def _text_metrics(tokenizer: str) -> dict[str, mt_metrics.TextMetric]:
    return mt_metrics.text_metrics(tokenizer)


def _best_hypotheses(predictions: Path, split: str, rows: int) -> pa.StringArray:
    path = predictions / f"hypotheses_{split}.parquet"
    best = tables.read(path, tables.HYPOTHESES).filter(pc.field("rank") == 0).sort_by("row")
    likelihood.check_row_numbers(best["row"], rows, path)
    return best["text"].combine_chunks()


def _output_columns(
    setting: _Setting, text: Text, outputs: pa.StringArray, references: pa.StringArray
) -> dict[str, Any]:
    """Columns that need outputs: the sums of each metric, `exact` (equal tokens by BLEU's
    tokenizer) and `empty`.

    Metrics that ignore case get texts with the corpus's lowercasing, which differs from that of
    sacreBLEU in some letters; the others get texts with their case."""
    cased = mt_metrics.normalized_pairs(
        outputs, references, dataclasses.replace(text, lowercase=False)
    )
    caseless = mt_metrics.normalized_pairs(outputs, references, text)
    no_capitals = cased == caseless and all(side == side.lower() for pair in cased for side in pair)

    columns: dict[str, Any] = {}
    for name, metric in _text_metrics(setting.tokenizer).items():
        with_case = name.removesuffix("_lowercase")
        # Without capitals both cases have the same sums.
        if no_capitals and with_case in columns:
            columns[name] = columns[with_case]
            continue
        pairs = cased if name == with_case and name != "ter" else caseless  # TER ignores case
        columns[name] = [metric.sums(*pair) for pair in pairs]

    tokenize = _text_metrics(setting.tokenizer)[setting.bleu].metric._preprocess_segment
    pairs = caseless if setting.lowercase else cased
    columns["exact"] = [
        tokenize(output).split() == tokenize(reference).split() for output, reference in pairs
    ]
    columns["empty"] = [not output.strip() for output in outputs.to_pylist()]
    return {
        name: pa.array(values, tables.SCORES_PAIR.field(name).type)
        for name, values in columns.items()
    }


def _best_translations(predictions: Path, split: str) -> list[str]:
    """The best hypothesis of each row, in order of rows."""
    hypotheses = tables.read(predictions / f"hypotheses_{split}.parquet", tables.HYPOTHESES)
    texts: list[str] = hypotheses.filter(pc.field("rank") == 0).sort_by("row")["text"].to_pylist()
    return texts


PROMOTION = Promotion(
    guards=("score", "chrf", "perplexity", "bleu_long", "empty"),
    validation=("perplexity.score", False),
    likelihood_text="target",
    same_normalization=False,
    same_vocabulary=False,
    selection=None,
    has_splits=True,
    outputs=(("source",), "target", _best_translations),
)
INTERFACE = Interface(
    outputs={"row": "long", "text": "string", "log_prob": "double"},
    params={"n_best": ("long", 1)},
    example="hello .",
    command="translate",
)
