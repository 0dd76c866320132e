"""What a perfect model answers gets perfect scores in every language, at every level, with and
without case; BLEU's tokenizer fits the script; words that a vocabulary lacks are paid for. Oracles:
sacreBLEU, and plain Python."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import synthetic_runs
import yaml
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from long_cases import mostly_long
from sacrebleu.metrics import BLEU, TER

from pipeline.core import params, tables
from pipeline.core.errors import UserError
from pipeline.core.params import AUTO
from pipeline.scoring import mt_metrics, tokenizers
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import Inputs, translation
from pipeline.scoring.unknown import unknown
from pipeline.text import bpe, vocab
from pipeline.text.encode import Codec, Description
from pipeline.text.specials import SPECIALS, UNK
from pipeline.text.tokens import LEVELS, Text, normalise, round_trip, split

TEXTS = {
    "composed and decomposed": (
        "Déjà vu à Noël, ça gêne l’été. / De\u0301ja\u0300 vu a\u0300 c\u0327a ge\u0302ne"
    ),
    "french spaces": "« Ça va\u202f?\u00a0»\u2009dit-il\u00a0; «\u00a0oui\u202f!\u00a0» … n° 5",
    "german": "Das Maß heißt STRASSE — „Größe“, ‚klein‘, 1.000,50 €. ẞ",
    "turkish": "İstanbul'da IĞDIR ılık, iyi İyi I\u0307 i\u0307.",
    "lithuanian": "Jis sako: i\u0307\u0300, j\u0307, į\u0307\u0303 gražus.",
    "greek": "Ο ΟΔΥΣΣΕΥΣ, ὁ σοφός ς· ΣΟΦΟΣ ΟΔΟΣ; ΐ ΰ",
    "russian": "Ёлка, й и\u0306 — «Война и мир», № 7.",
    "arabic": "السَّلَامُ عَلَيْكُمْ، كَيْفَ حَالُكَ؟ لا",
    "persian": "می\u200cشود که کتاب\u200cها را بخوانیم، نه؟",
    "hebrew": "שָׁלוֹם עֲלֵיכֶם, ד״ר כהן\u200f!",
    "hindi": "क्\u200dष और श्री\u200cमान, यह हिन्दी है। १२३",
    "thai": "ฉันกินข้าวที่บ้าน แล้วไปโรงเรียน ๑๒๓",
    "burmese": "မြန်မာစာကို ရေးပါတယ်။ ကျေးဇူးတင်ပါတယ်",
    "chinese": "我今天去学校，然后回家。“好”吗？豈 — 更",
    "japanese": "私は今日、学校へ行きます。ﾊﾝｶｸ カ\u3099ーテン が",
    "korean": "한국어를 배웁니다. \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165",
    "full width": "so it is here: ＡＢＣ１２３！　（全角）［ｘ］",
    "emoji": "👩\u200d👩\u200d👧 and 🏳️\u200d🌈 wave 👋🏽 ok ☺️",
    "invisible": "co\u00adoperate zero\u200bwidth a\u2060b \ufeffmark \u200eltr\u200f",
    "marks without a composed form": "x\u0304 m\u0302 ⃝ a\u0323\u0302 q\u0303\u0323",
    "ligatures": "ﬁne oﬀer ĳs œuvre ǆ ǅ ŉ",
    "quotes and dashes": "\"a\" 'b' ‘c’ “d” ‹e› dogs' 'tis rock 'n' roll – — ― -- ...",
    "markup": "a &amp; b &lt;i&gt; <br /> &quot;x&quot; <unk> <eos> it&#39;s {x} [y] |z| a_b c/d",
    "numbers": "3.14 10:30 1,000 2.5.3 5% $9 №5 ½ ² x² 1.-2.",
    "line separators": "one\u2028two\u2029three\u0085four\tfive\x00six\x1fseven",
}
LETTERS = st.sampled_from("".join(TEXTS.values()))
ANY = st.one_of(st.text(LETTERS, max_size=24), st.text(max_size=16))
BLOCKS = [(level, lowercase) for level in LEVELS for lowercase in (False, True)]
PERFECT = {"bleu": 100, "chrf": 100, "ter": 0}
slow = settings(deadline=None, max_examples=12)


def block(level: str, lowercase: bool = False) -> Text:
    return Text(level=level, lowercase=lowercase, letters_only=False, max_tokens=None)


def decoded(texts: Sequence[str], text: Text) -> list[str]:
    """The texts read, encoded with a vocabulary that knows all of them, and decoded: what a perfect
    model answers."""
    tokens = split(
        normalise(pa.array(texts, pa.string()), text.lowercase, text.letters_only), text.level
    )
    tokenizer = None
    if text.level == "bpe":
        config = vocab.Vocab(corpus="c", size=300, min_count=1, share=True)
        tokenizer = bpe.train([tokens], config)
        words = pa.array(
            [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
        )
    else:
        config = vocab.Vocab(corpus="c", size=None, min_count=1, share=True)
        words = vocab.table(vocab.count(tokens), config)["token"].combine_chunks()
    about = Description(
        level=text.level,
        lowercase=text.lowercase,
        letters_only=False,
        share=True,
        sides=("text",),
        sizes={"text": 9},
    )
    codec = Codec(about, words, tokenizer)
    return codec.decode_batch(codec.encode_tokens(tokens).to_pylist())


def scores(
    folder: Path, answers: Sequence[str], references: Sequence[str], text: Text, tokenizer: str
) -> dict[str, object]:
    """The test split's metrics of answers to references, which are each their own source."""
    folder.mkdir(parents=True)
    rows, ones = range(len(references)), [1] * len(references)
    tokens = [["a"]] * len(references)
    columns = [rows, references, references, tokens, tokens, ones]
    tables.write(
        folder / "test.parquet", pa.table([list(c) for c in columns], schema=tables.TOKENS_PAIR)
    )
    synthetic_runs.hypotheses(folder / "hypotheses_test.parquet", list(answers))
    likelihood = pa.table([list(rows), [1.0] * len(references), ones], schema=tables.LIKELIHOOD)
    tables.write(folder / "likelihood_test.parquet", likelihood)
    task = translation.scoring(text.lowercase, tokenizer)
    table = task.rows(Inputs(predictions=folder, tokens=folder, encoded=None, text=text), "test")
    return task.summary(table, Bootstrap(5, 0.95, 1), {})


def score_of(found: dict[str, object], name: str, text: Text) -> float:
    return found[f"{name}_lowercase" if text.lowercase and name != "ter" else name]["score"]


# Perfect answers


@pytest.mark.parametrize(("level", "lowercase"), mostly_long(BLOCKS, 3))
def test_a_perfect_models_answers_get_perfect_scores_in_every_language(
    level: str, lowercase: bool, tmp_path: Path
) -> None:
    text = block(level, lowercase)
    for name, raw in TEXTS.items():
        if level == "space" and name == "markup":
            continue  # a special's name between spaces is a word that no vocabulary has
        fitting = tokenizers.choose(tokenizers.script([pa.array([raw])]))
        found = scores(
            tmp_path / name.replace(" ", "_"), decoded([raw], text), [raw], text, fitting
        )
        assert {kind: score_of(found, kind, text) for kind in PERFECT} == pytest.approx(PERFECT), (
            name
        )
        assert found["exact_match"] == 1.0, name


@slow
@given(
    texts=st.lists(ANY, min_size=1, max_size=8),
    setting=st.sampled_from(BLOCKS),
    tokenizer=st.sampled_from(["13a", "zh", "char"]),
)
@example(texts=list(TEXTS.values()), setting=("word", True), tokenizer="13a")
@example(texts=list(TEXTS.values()), setting=("bpe", False), tokenizer="zh")
def test_whatever_reading_does_to_a_text_scoring_does_to_its_reference(
    texts: list[str],
    setting: tuple[str, bool],
    tokenizer: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = block(*setting)
    said = decoded(texts, text)
    if setting[0] != "space":  # there, a special's name in a text is unknown
        assert said == round_trip(pa.array(texts, pa.string()), text).to_pylist()
    found = scores(tmp_path_factory.mktemp("perfect") / "split", said, texts, text, tokenizer)
    if "<unk>" not in said:
        assert found["exact_match"] == 1.0
        assert score_of(found, "ter", text) == 0
        assert score_of(found, "chrf", text) in (pytest.approx(100), 0)  # 0 where no text is left


@slow
@given(st.lists(ANY, max_size=12), st.sampled_from(BLOCKS))
def test_round_trip_keeps_tokens_and_is_idempotent(
    texts: list[str], setting: tuple[str, bool]
) -> None:
    text = block(*setting)
    once = round_trip(pa.array(texts, pa.string()), text)
    assert round_trip(once, text).equals(once)
    read = [
        split(normalise(side, text.lowercase, False), text.level)
        for side in (pa.array(texts, pa.string()), once)
    ]
    assert read[0].equals(read[1])


def test_a_wrong_letter_still_costs(tmp_path: Path) -> None:
    """Reading alike forgives nothing that a model could have written otherwise."""
    references = ["El Niño vuelve a la costa.", "Ça va, l'été ?"]
    for number, wrong in enumerate(
        (["El Nino vuelve a la costa.", references[1]], [references[0], "Ça va, l' automne ?"])
    ):
        found = scores(tmp_path / str(number), wrong, references, block("word"), "13a")
        assert found["bleu"]["score"] < 100
        assert found["exact_match"] == 0.5


# The tokenizer of BLEU

SYLLABLES = st.sampled_from(
    [
        "我",
        "今天",
        "去",
        "学校",
        "，",
        "。",
        "が",
        "カタカナ",
        "ไป",
        "บ้าน",
        "the",
        "cat",
        "3.5",
        "!",
        " ",
        "é",
    ]
)
WRITTEN = st.lists(SYLLABLES, max_size=12).map("".join)


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "zh", "char", "none"])
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(WRITTEN, WRITTEN), min_size=1, max_size=8))
def test_every_tokenizers_sums_are_sacrebleus_corpus_score(
    tokenizer: str, rows: list[tuple[str, str]]
) -> None:
    hypotheses, references = (list(side) for side in zip(*rows, strict=True))
    for name, oracle in (
        ("bleu", BLEU(force=True, tokenize=tokenizer)),
        ("bleu_lowercase", BLEU(force=True, tokenize=tokenizer, lowercase=True)),
        ("ter", TER(normalized=True, asian_support=tokenizer in ("zh", "char"))),
    ):
        measure = mt_metrics.text_metrics(tokenizer)[name]
        sums = np.array([measure.sums(*row) for row in rows], dtype=np.float64).sum(
            0, keepdims=True
        )
        assert measure.score(sums)[0] == pytest.approx(
            oracle.corpus_score(hypotheses, [references]).score, abs=1e-9
        )


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        ("Ein Mann mit Hut.", "13a"),
        ("Война и мир", "13a"),
        ("السَّلَامُ عَلَيْكُمْ", "13a"),
        ("यह हिन्दी है", "13a"),
        ("한국어를 배웁니다", "13a"),
        ("", "13a"),
        ("12345 !?", "13a"),
        ("我今天去学校。", "zh"),
        ("他说“の”是一个日本字母，我不知道它是什么意思。", "zh"),
        ("我用 GPU 训练模型", "zh"),
        ("The word 学校 means school", "13a"),
        ("私は今日学校へ行きます", "char"),
        ("ฉันกินข้าว", "char"),
        ("ຂ້ອຍກິນເຂົ້າ", "char"),
        ("ខ្ញុំញ៉ាំបាយ", "char"),
        ("မြန်မာစာကို", "char"),
        ("བཀྲ་ཤིས་བདེ་ལེགས", "char"),
    ],
)
def test_auto_goes_by_the_script_of_most_letters(text: str, tokenizer: str) -> None:
    expected = (
        "ja-mecab"
        if tokenizer == "char" and "は" in text and tokenizers.installed("ja-mecab")
        else tokenizer
    )
    assert tokenizers.choose(tokenizers.script([pa.array([text])])) == expected


@slow
@given(st.lists(st.sampled_from([*TEXTS.values()]), max_size=8), st.randoms())
def test_the_choice_depends_on_no_order_and_no_batch(texts: list[str], random: object) -> None:
    whole = tokenizers.script([pa.array(texts, pa.string())])
    random.shuffle(texts)
    assert tokenizers.script([pa.array([text]) for text in texts]) == whole


def test_without_a_corpus_each_reference_gets_the_tokenizer_of_its_script() -> None:
    answers, references = ["我明天去学校", "a cat sat down"], ["我今天去学校", "a cat sat down"]
    for wanted, places in (("zh", [0]), ("13a", [1])):
        measure, oracle = mt_metrics.text_metrics()["bleu"], BLEU(force=True, tokenize=wanted)
        sums = [measure.sums(answers[i], references[i]) for i in places]
        oracle_score = oracle.corpus_score(
            [answers[i] for i in places], [[references[i] for i in places]]
        ).score
        assert measure.score(np.array(sums, dtype=float))[0] == pytest.approx(oracle_score)
        assert f"tok:{wanted}" in measure.signature(Bootstrap(5, 0.95, 1))


@pytest.mark.parametrize(
    ("asked", "text", "says"),
    [
        ("13a", "我今天去学校，然后回家睡觉。", "auto would choose zh"),
        ("none", "ฉันกินข้าวที่บ้านแล้วไปโรงเรียน", "auto would choose char"),
        ("13a", "我 今天 去 学校 ，", ""),
        ("char", "我今天去学校，然后回家睡觉。", ""),
        ("zh", "Ein Mann mit Hut.", ""),
        ("13a", "Donaudampfschifffahrtsgesellschaft", ""),
        (AUTO, "我今天去学校，然后回家睡觉。", ""),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_script_is_warned_of(
    asked: str, text: str, says: str
) -> None:
    _, warning = tokenizers.resolve(asked, tokenizers.script([pa.array([text])]), "corpora.c.bleu")
    assert (says in warning) if says else not warning


@pytest.mark.skipif(tokenizers.installed("ja-mecab"), reason="its library is here")
def test_a_tokenizer_whose_library_is_missing_is_refused_in_one_line(
    project: Path, seqline, edited
) -> None:
    edited(project, "corpora.toy_en_fr.bleu_tokenizer", "ja-mecab")
    said = seqline(project, "check")
    assert said.status == 2
    assert said.err == (
        "seqline: corpora.toy_en_fr.bleu_tokenizer: got ja-mecab, whose library is not installed; "
        "expected a tokenizer that works "
        "here. Install mecab-python3 and ipadic, or use char.\n"
    )


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (
            "flores200",
            (
                "corpora.toy_en_fr.bleu_tokenizer: got flores200; expected one of auto, 13a, intl, "
                "zh, ja-mecab, char, none."
            ),
        ),
        (
            13,
            (
                "corpora.toy_en_fr.bleu_tokenizer: got 13; expected one of auto, 13a, intl, zh, "
                "ja-mecab, char, none."
            ),
        ),
    ],
)
def test_check_asks_for_a_known_tokenizer(
    project: Path, seqline, edited, value: object, line: str
) -> None:
    edited(project, "corpora.toy_en_fr.bleu_tokenizer", value)
    assert seqline(project, "check") == (2, "", f"seqline: {line}\n")


def test_a_params_file_from_before_the_key_counts_as_auto(project: Path, seqline, edited) -> None:
    edited(project, "corpora.toy_en_fr.bleu_tokenizer", ...)
    assert seqline(project, "check").status == 0
    assert params.corpus(project / "params.yaml", "toy_en_fr").bleu_tokenizer == AUTO


def test_dvc_asks_for_no_key_that_a_params_file_may_lack() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    listed = [key for stage in stages.values() for key in stage.get("do", stage).get("params", [])]
    assert "corpora.${item.corpus}" in listed
    assert not [key for key in listed if key.endswith(".bleu_tokenizer")]


# Through the stage


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    return synthetic_runs.project(
        tmp_path, {"transformer": 0.2, "seq2seq": 0.6}, {"lstm": 2.3}, rows=60
    )


def change(root: Path, path: str, column: str, value) -> None:
    """Every text of a column of a table, changed."""
    table = tables.pq.read_table(root / path)
    place = table.schema.get_field_index(column)
    made = pa.array(
        [value(text) for text in table[column].to_pylist()], table.schema.field(place).type
    )
    tables.write(root / path, table.set_column(place, table.schema.field(place), made))


def changed(root: Path, runs: Sequence[str], value) -> None:
    """References and answers of a made project, changed alike."""
    for split_ in ("train", "valid", "test", "test_long"):
        change(root, f"data/tokens/pairs/{split_}.parquet", "target", value)
    for run in runs:
        for split_ in ("test", "test_long"):
            change(root, f"data/predictions/{run}/hypotheses_{split_}.parquet", "text", value)


def evaluate(root: Path, run: str) -> dict[str, object]:
    stage_runs.run(root, "evaluate", run)
    return json.loads((root / f"reports/metrics/{run}.json").read_text(encoding="utf-8"))


def in_chinese(text: str) -> str:
    """Each word of a made text as one character, without spaces."""
    return "".join(
        chr(0x4E00 + 7 * (synthetic_runs.WORDS.index(word) if word in synthetic_runs.WORDS else 99))
        for word in text.lower().replace(".", " .").split()
    )


def test_chinese_is_scored_and_ranked_by_its_characters(evaluated: Path) -> None:
    changed(evaluated, ["transformer", "seq2seq"], in_chinese)
    found = {run: evaluate(evaluated, run) for run in ("transformer", "seq2seq")}
    table = tables.pq.read_table(
        evaluated / "data/predictions/transformer/hypotheses_test.parquet"
    ).to_pylist()
    answers = [row["text"] for row in table if row["rank"] == 0]
    wanted = tables.pq.read_table(evaluated / "data/tokens/pairs/test.parquet")[
        "target"
    ].to_pylist()
    score = BLEU(force=True, tokenize="zh").corpus_score(answers, [wanted]).score
    bleu = found["transformer"]["test"]["bleu"]
    assert score > 20
    assert bleu["score"] == pytest.approx(score, abs=1e-5)
    assert bleu["low"] < score < bleu["high"]
    assert "tok:zh" in bleu["signature"]
    assert "notes" not in found["transformer"]
    lines = (evaluated / "reports/plots/transformer/by_length.csv").read_text().splitlines()
    assert float(lines[1].split(",")[-1]) > 0
    evaluate(evaluated, "lstm")
    stage_runs.run(evaluated, "report")
    text = (evaluated / "reports/comparison.md").read_text(encoding="utf-8")
    assert f"`transformer` has the best score, BLEU {score:.2f} [" in text
    assert re.search(r"\| `transformer` – `seq2seq` \| \+.* \| yes \|", text)
    assert "tok:zh" in text


@pytest.mark.long
def test_tokenizer_mismatch_is_noted_by_evaluate_and_report(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(evaluated, ["transformer", "seq2seq"], in_chinese)
    content = yaml.safe_load((evaluated / "params.yaml").read_text())
    content["corpora"]["pairs"]["bleu_tokenizer"] = "13a"
    (evaluated / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for run in ("transformer", "seq2seq", "lstm"):
        notes = evaluate(evaluated, run).get("notes", [])
        said = capsys.readouterr().err
        assert bool(notes) == (run != "lstm")
        assert all(f"seqline: {run}: {note}." in said for note in notes)
        assert all(
            "corpora.pairs.bleu_tokenizer is 13a, which needs spaces between words" in note
            for note in notes[:1]
        )
    stage_runs.run(evaluated, "report")
    assert "Note: corpora.pairs.bleu_tokenizer is 13a" in (
        evaluated / "reports/comparison.md"
    ).read_text(encoding="utf-8")


@pytest.mark.long
def test_where_no_reference_has_four_tokens_chrf_ranks_and_everyone_says_why(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(evaluated, ["transformer", "seq2seq"], lambda text: " ".join(text.split()[:2]))
    for run in ("transformer", "seq2seq"):
        found = evaluate(evaluated, run)
        assert (
            "seqline: " + run + ": no reference has 4 tokens, so that BLEU is 0"
            in capsys.readouterr().err
        )
        assert found["ranked_by"] == "chrf"
        assert found["test"]["bleu"]["score"] == 0 < found["test"]["chrf"]["score"]
        assert found["test"]["distance"] == pytest.approx(
            100 - found["test"]["chrf"]["score"], abs=2e-6
        )
        header = (evaluated / f"reports/plots/{run}/by_length.csv").read_text().splitlines()[0]
        assert header.endswith(",chrf")
    evaluate(evaluated, "lstm")
    stage_runs.run(evaluated, "report")
    text = (evaluated / "reports/comparison.md").read_text(encoding="utf-8")
    assert "Note: no reference has 4 tokens" in text
    assert "`transformer` has the best score, chrF" in text
    assert "difference in chrF" in text


def test_references_of_four_tokens_are_ranked_by_bleu_however_short_the_answers(
    evaluated: Path,
) -> None:
    for split_ in ("test", "test_long"):
        change(
            evaluated,
            f"data/predictions/transformer/hypotheses_{split_}.parquet",
            "text",
            lambda text: "Le",
        )
    assert "ranked_by" not in evaluate(evaluated, "transformer")


def test_answers_that_no_model_wrote_are_scored_too(evaluated: Path) -> None:
    """Answers put in by hand come with a config.json that says nothing."""
    before = evaluate(evaluated, "transformer")
    (evaluated / "data/models/transformer/config.json").write_text("{}", encoding="utf-8")
    assert evaluate(evaluated, "transformer")["test"] == before["test"]


def test_decomposed_references_cost_nothing_and_neither_do_those_of_samples(
    evaluated: Path,
) -> None:
    before = evaluate(evaluated, "transformer")

    def decomposed(text: str) -> str:
        return text.replace("e", "e\u0301")

    changed(evaluated, [], decomposed)
    for split_ in ("test", "test_long"):
        path = f"data/predictions/transformer/hypotheses_{split_}.parquet"
        change(evaluated, path, "text", lambda text: text.replace("e", "é"))
    for column, letter in (("text", "é"), ("reference", "e\u0301")):
        change(
            evaluated,
            "data/predictions/transformer/samples.parquet",
            column,
            lambda t, letter=letter: t.replace("e", letter),
        )
    after = evaluate(evaluated, "transformer")
    for split_ in ("test", "test_long"):
        for name in ("bleu", "chrf", "ter", "exact_match"):
            assert after[split_][name] == before[split_][name]
    assert after["d2l_bleu"] == before["d2l_bleu"]


# Words that a vocabulary lacks


@slow
@given(
    rows=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["a", "bb", "céé", "<unk>", "d d"]), st.booleans()),
            max_size=6,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_unknown_words_cost_their_letters_and_an_end(
    rows: list[list[tuple[str, bool]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("unknown")
    words = [[word for word, _ in row] for row in rows]
    ids = [
        [UNK if lacking or word == SPECIALS[UNK] else 9 for word, lacking in row] for row in rows
    ]
    number, zero = list(range(len(rows))), [0] * len(rows)
    (folder / "encoded").mkdir()
    tables.write(
        folder / "encoded/test.parquet", pa.table([number, ids, zero], schema=tables.ENCODED_TEXT)
    )
    column = pa.chunked_array([pa.array(words, pa.list_(pa.string()))])
    charge = unknown(column, folder / "encoded", "test", "text")
    letters = {letter for row in words for word in row for letter in word} | {" "}
    lacking = [[word for word, unseen in row if unseen and word != SPECIALS[UNK]] for row in rows]
    assert charge.count_N.tolist() == [len(row) for row in lacking]
    expected = [sum(len(word) + 1 for word in row) * math.log(len(letters) + 1) for row in lacking]
    assert charge.nats_N.tolist() == pytest.approx(expected)
    assert not unknown(column, None, "test", "text").nats_N.any()


def cut(root: Path, corpus: str, words: int) -> float:
    """All but the first few words become unknown to the corpus's vocabulary; the share of the test
    split's words."""
    folder, column = root / "data/encoded" / corpus, "ids" if corpus == "story" else "target"
    for path in folder.glob("*.parquet"):
        change(
            root,
            str(path.relative_to(root)),
            column,
            lambda ids: [i if i < 4 + words else UNK for i in ids],
        )
    ids = [
        i for row in tables.pq.read_table(folder / "test.parquet")[column].to_pylist() for i in row
    ]
    return ids.count(UNK) / len(ids)


@pytest.mark.parametrize(("run", "corpus"), [("lstm", "story"), ("transformer", "pairs")])
def test_a_smaller_vocabulary_does_not_look_better(run: str, corpus: str, evaluated: Path) -> None:
    """Nats fall as words become unknown, here to those of the known ones: with their letters paid
    for, the sum rises."""
    before = evaluate(evaluated, run)["test"]
    assert "unknown" not in before
    share = cut(evaluated, corpus, 5)
    for split_ in ("valid", "test"):
        path = f"data/predictions/{run}/likelihood_{split_}.parquet"
        change(evaluated, path, "nats", lambda nats: nats * (1 - share))
    after = evaluate(evaluated, run)["test"]
    assert share > 0.5
    assert after["unknown"] == pytest.approx(share, abs=1e-6)
    for name in ("perplexity", "bits_per_character"):
        one, other = (
            found[name]["score"] if name == "perplexity" else found[name]
            for found in (before, after)
        )
        assert other > one
    if corpus == "story":
        assert after["floor_perplexity"] == before["floor_perplexity"]
        assert after["excess"] > before["excess"] > 0
        assert after["perplexity"]["score"] == pytest.approx(
            (1 + after["excess"]) * after["floor_perplexity"], rel=1e-5
        )


@pytest.mark.long
def test_the_report_shows_the_share_of_unknown_words_beside_the_score(evaluated: Path) -> None:
    share = cut(evaluated, "story", 5)
    for run in ("transformer", "seq2seq", "lstm"):
        evaluate(evaluated, run)
    stage_runs.run(evaluated, "report")
    text = (evaluated / "reports/comparison.md").read_text(encoding="utf-8")
    ranking = text.split("## Language models on story")[1].split("###")[0]
    assert "| unknown words |" in ranking
    assert f"{share:.1%}" in ranking
    assert "| unknown words |" not in text.split("## Translators on pairs")[1]


def test_ids_of_other_rows_are_refused(evaluated: Path) -> None:
    path = evaluated / "data/encoded/story/test.parquet"
    tables.write(path, tables.read(path, tables.ENCODED_TEXT).slice(1))
    with pytest.raises(
        UserError, match=r"encoded/story/test.parquet: got 59 rows; expected the 60 rows"
    ):
        evaluate(evaluated, "lstm")
