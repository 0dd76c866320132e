"""Text to tokens to ids and back, held against plain-Python oracles; splits that do not leak; the
three stages."""

import html
import json
import re
import tracemalloc
import unicodedata
from collections import Counter
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core import config, params, tables
from pipeline.core.errors import UserError
from pipeline.corpora import text_lines
from pipeline.text import bpe, splits, tokens, vocab
from pipeline.text.encode import Codec, Description, describe
from pipeline.text.rows import PreparedBatch, Rows, Splitter, prepare, shares
from pipeline.text.specials import BOS, EOS, PAD, SPECIALS, UNK
from pipeline.text.tokens import LEVELS, Text, join, normalise, split

# Every call compiles its regular expressions anew: many texts in few calls.
quick = settings(deadline=None, max_examples=25)

# Characters of every treatment, and pieces that the rules name: together they meet every branch.
SINGLE = "aAéÉßжЖ中ñ1٣²lLqu.,!?;:'’-()[]<>@&\"«»…—%#_/\\"
BLANKS = " \t\n\r\u00a0\u202f\u200b\u0085\u2028\u3000\u00ad\ufeff\x00\x92\u0301\u0338"
LONGER = [
    "e\u0301",
    "\u212b",
    "\u037e",
    "İ",
    "H\u0331",
    "<unk>",
    "<eos>",
    "<br />",
    "<br/>",
    "<BR>",
    "@-@",
    "@,@",
    " word",
    "été ",
]
RESOLVED = [
    "&amp;",
    "&lt;",
    "&AMP;",
    "&amp;lt;",
    "&#39;",
    "&nbsp;",
    "l'",
    "qu’",
    "D'",
    "n't",
    "3.14",
    "10:30",
]
PIECES = st.sampled_from([*SINGLE, *BLANKS, *LONGER, *RESOLVED])
MIXED = st.lists(PIECES, max_size=14).map("".join)
ANY = st.one_of(MIXED, st.text(max_size=20))
MANY = st.lists(ANY, max_size=30)
FLAGS = st.tuples(st.booleans(), st.booleans())
LEVEL = st.sampled_from(LEVELS)


def many(texts: list[str], lowercase: bool = False, letters_only: bool = False) -> list[str]:
    return normalise(pa.array(texts, pa.string()), lowercase, letters_only).to_pylist()


def one(text: str, lowercase: bool = False, letters_only: bool = False) -> str:
    return many([text], lowercase, letters_only)[0]


def words(text: str, level: str = "word") -> list[str]:
    return split(pa.array([one(text)]), level)[0].as_py()


# ---------------------------------------------------------------- normalising


def plain_normalise(text: str, lowercase: bool, letters_only: bool) -> str:
    """The treatment as the docstring of `tokens` tells it, character by character."""
    text = unicodedata.normalize("NFC", text)
    if lowercase:
        text = "".join(c.lower() if len(c.lower()) == 1 else c.lower()[0] for c in text)
    unseen = {
        0xAD,
        0x180E,
        0xFEFF,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
    }
    text = "".join(c for c in text if ord(c) not in unseen)
    while (shorter := re.sub("&amp;", "&", text, flags=re.I)) != text:
        text = shorter
    for name in ("&lt;", "&gt;", "&quot;", "&#39;", "&#x27;", "&apos;", "&nbsp;"):
        text = re.sub(name, lambda match: html.unescape(match[0].lower()), text, flags=re.I)
    text = "".join(
        " " if c.isspace() or unicodedata.category(c) in ("Cc", "Zs") else c for c in text
    )
    while (shorter := re.sub("  +", " ", re.sub("<br ?/?>", " ", text, flags=re.I))) != text:
        text = shorter
    text = unicodedata.normalize("NFC", text)
    if letters_only:
        kept: list[str] = []
        for c in text:
            owned = unicodedata.category(c)[0] == "M" and kept and kept[-1] != " "
            kept.append(c if c.isalpha() or owned else " ")
        text = "".join(kept)
    return " ".join(text.split())


@quick
@given(st.lists(MIXED, max_size=30), FLAGS)
def test_normalising_agrees_with_a_plain_python_oracle(texts, flags):
    assert many(texts, *flags) == [plain_normalise(text, *flags) for text in texts]


ADVERSE = [
    "&amp;amp;lt;br /&amp;gt;",
    "<br <br/>/>",
    "&a\u200bmp;",
    "&AMP;",
    "J\u030c e\u200b\u0301",
    "&lt;\u0338 &amp\u037e",
]


@quick
@given(MANY, FLAGS)
@example(ADVERSE, (False, False))
@example(ADVERSE, (True, True))
def test_normalising_twice_changes_nothing(texts, flags):
    assert many(many(texts, *flags), *flags) == many(texts, *flags)


@quick
@given(MANY, FLAGS)
def test_normalised_text_is_nfc_with_single_plain_spaces_and_no_control_characters(texts, flags):
    for found in many(texts, *flags):
        assert unicodedata.is_normalized("NFC", found)
        assert not [
            c for c in found if c != " " and (c.isspace() or unicodedata.category(c) == "Cc")
        ]
        assert "  " not in found
        assert found == found.strip(" ")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Va\u202f!\u00a0Oui", "Va ! Oui"),
        ("zero\u200bwidth \ufeffmark", "zerowidth mark"),
        ("next\u0085line\tand tab\r", "next line and tab"),
        ("good.<br /><br />Bad", "good. Bad"),
        (
            "salt &amp; pepper &amp;amp; &lt;b&gt; &quot;x&quot; it&#39;s",
            'salt & pepper & <b> "x" it\'s',
        ),
        ("cafe\u0301", "café"),
        ("", ""),
        (" \t\u3000 ", ""),
    ],
)
def test_odd_characters_have_a_defined_treatment(raw, clean):
    assert one(raw) == clean


@quick
@given(
    st.lists(
        st.lists(st.sampled_from(["<br", "<", "BR", " ", "/", ">", ">", "a"]), max_size=14).map(
            "".join
        )
    )
)
def test_breaks_within_breaks_are_resolved_as_by_replacing_until_nothing_changes(texts):
    assert many(texts) == [plain_normalise(text, False, False) for text in texts]


@pytest.mark.parametrize("nested", ["<br", "<br ", "<BR"])
def test_the_work_on_breaks_within_breaks_does_not_grow_with_their_depth(monkeypatch, nested):
    calls, replace = Counter(), tokens.pc.replace_substring_regex

    def counted(texts, pattern, replacement):
        calls[pattern] += 1
        return replace(texts, pattern, replacement)

    monkeypatch.setattr(tokens.pc, "replace_substring_regex", counted)
    for depth in (10, 30_000):
        calls.clear()
        found = one("a" + nested * depth + ">" * 2 * depth + "b")
        assert found.startswith("a >")
        assert max(calls.values()) <= 2


@pytest.mark.parametrize("marks", ["\u0316\u0301", "\u0301", "\u0f73"])
def test_a_hundred_thousand_marks_on_a_letter_are_put_in_order(marks):
    """The standard library takes quadratic time: over half a minute for each of these."""
    number = 100_000 // len(marks)
    found = one("e" + marks * number + "\u0316")
    want = sorted(
        unicodedata.normalize("NFD", marks) * number + "\u0316", key=unicodedata.combining
    )
    assert unicodedata.normalize("NFC", "".join(["e", *want])) == found


@quick
@given(st.lists(st.text("ae\u0316\u0301\u0344\u0f73\u1eaf\uac00\u11a8", max_size=12)))
def test_long_runs_of_marks_are_normalised_as_short_ones_are(texts):
    short = [text.join(("a", "a")) for text in texts]
    assert many([text + "-" * 2500 + "\u0301" * 60 for text in short]) == [
        text + "-" * 2500 + "\u0301" * 60 for text in many(short)
    ]


@quick
@given(st.lists(st.text("".join(set(map(chr, range(32, 127))) - set("&<")), max_size=60)))
def test_letters_only_is_the_books_rule_on_plain_english(texts):
    assert many(texts, True, True) == [
        re.sub("[^A-Za-z]+", " ", text).lower().strip() for text in texts
    ]


def test_letters_only_keeps_letters_of_every_script_and_the_marks_on_them():
    assert one("L'Été 1900, x\u0304y — «жук»! 3\u0301", True, True) == "l été x\u0304y жук"


def test_null_texts_stay_null_through_normalising():
    assert normalise(pa.array(["é\u0301", None, "a"]), True, True).to_pylist()[1] is None


# ---------------------------------------------------------------- splitting


def _is(text: str, place: int, kinds: str) -> bool:
    return place < len(text) and unicodedata.category(text[place])[0] in kinds


def _word_end(text: str, place: int) -> int:
    while _is(text, place, "LMN"):
        place += 1
    return place


def plain_words(text: str) -> list[str]:
    """The word rule by hand: a scanner with the alternatives in their order, no regular
    expression."""
    found, place = [], 0
    while place < len(text):
        end = place + 1
        lower = text[place : place + 3].lower()
        if text[place] == " ":
            place += 1
            continue
        if text.startswith("<unk>", place):
            end = place + 5
        elif text[place : place + 3] in ("@-@", "@,@", "@.@"):
            end = place + 3
        elif lower[:1] in tuple("cdjlmnst") and lower[1:2] in ("'", "’"):
            end = place + 2
        elif lower[:2] == "qu" and lower[2:3] in ("'", "’"):
            end = place + 3
        else:
            number = place
            while _is(text, number, "N"):
                number += 1
            if (
                number > place
                and text[number : number + 1] in tuple(".,:")
                and _is(text, number + 1, "N")
            ):
                while text[number : number + 1] in tuple(".,:") and _is(text, number + 1, "N"):
                    number += 1
                    while _is(text, number, "N"):
                        number += 1
                end = number
            elif _is(text, place, "LMN"):
                end = _word_end(text, place)
                while text[end : end + 1] in tuple("'’-") and _is(text, end + 1, "LMN"):
                    end = _word_end(text, end + 1)
        found.append(text[place:end])
        place = end
    return found


@quick
@given(st.lists(MIXED, max_size=40))
def test_word_rule_agrees_with_a_reference_scanner(texts):
    normal = normalise(pa.array(texts, pa.string()), False, False)
    assert split(normal, "word").to_pylist() == [plain_words(text) for text in normal.to_pylist()]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("he's calm.", ["he's", "calm", "."]),
        ("Don't stop , please!", ["Don't", "stop", ",", "please", "!"]),
        ("l'eau qu'il boit, aujourd'hui", ["l'", "eau", "qu'", "il", "boit", ",", "aujourd'hui"]),
        ("J’ai 3.14 m à 10:30.", ["J’", "ai", "3.14", "m", "à", "10:30", "."]),
        ("Va\u202f!", ["Va", "!"]),
        ("the <unk> role @-@ play", ["the", "<unk>", "role", "@-@", "play"]),
        ("dix-huit (été)", ["dix-huit", "(", "été", ")"]),
        ("dogs' 'tis", ["dogs", "'", "'", "tis"]),
    ],
)
def test_words_are_split_as_the_book_does_and_unicode_asks(text, tokens):
    assert words(text) == tokens


@settings(deadline=None, max_examples=60)
@given(MANY, FLAGS, LEVEL)
def test_join_then_split_gives_the_same_tokens(texts, flags, level):
    normal = normalise(pa.array(texts, pa.string()), *flags)
    tokens = split(normal, level)
    again = normalise(join(tokens, level), *flags)
    assert split(again, level).to_pylist() == tokens.to_pylist()
    if level != "word":
        assert join(tokens, level).equals(normal)


@quick
@given(st.lists(MIXED, min_size=1, max_size=6), LEVEL, st.data())
def test_a_row_is_split_and_joined_the_same_in_any_batch(texts, level, data):
    normal = normalise(pa.array(texts), False, False)
    begin = data.draw(st.integers(0, len(texts)))
    tokens = split(normal, level)
    assert split(normal.slice(begin), level).to_pylist() == tokens.slice(begin).to_pylist()
    assert join(tokens.slice(begin), level).to_pylist() == join(tokens, level).to_pylist()[begin:]


@quick
@given(MANY)
def test_characters_are_pythons_characters(texts):
    normal = many(texts)
    assert split(pa.array(normal, pa.string()), "char").to_pylist() == [
        list(text) for text in normal
    ]


# ---------------------------------------------------------------- splits


def _placed(sources: list[str]) -> dict[str, str]:
    return dict(
        zip(
            sources,
            splits.by_hash(splits.digests(pa.array(sources)), 0.2, 0.2).to_pylist(),
            strict=True,
        )
    )


@quick
@given(st.lists(st.text(max_size=6), min_size=1, unique=True), st.lists(st.text(max_size=6)))
def test_adding_rows_moves_no_row_to_another_split(old, new):
    before, after = _placed(old), _placed([*new, *old])
    assert all(after[source] == before[source] for source in old)


def test_split_shares_are_close_to_the_settings():
    names = Counter(_placed([f"sentence {number}" for number in range(20_000)]).values())
    assert abs(names["valid"] / 20_000 - 0.2) < 0.02
    assert abs(names["test"] / 20_000 - 0.2) < 0.02


def test_all_targets_of_a_source_go_together_and_so_do_its_spellings():
    spellings = ["Run!", "run!", " RUN! ", "Run&nbsp;!".replace("&nbsp;", ""), "Ru\u200bn!"]
    batch = pa.record_batch(
        [spellings, list("abcde"), pa.nulls(5, pa.string())], schema=tables.RAW_PAIR
    )
    for level in LEVELS:
        ready = prepare(
            batch, Text(level=level, lowercase=level == "word", letters_only=False, max_tokens=None)
        )
        assert len(set(ready.keys[0].tolist())) == 1


@quick
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_contiguous_splits_are_slices_however_the_rows_are_batched(sizes):
    total, how = sum(sizes), params.Split(method="contiguous", valid=0.2, test=0.3)
    splitter, found = Splitter(how, {"": total}), []
    for size in sizes:
        found += splitter.names(
            "all", PreparedBatch({}, pa.nulls(size, pa.string()), [])
        ).to_pylist()
    assert found == sorted(found, key=["train", "valid", "test"].index)
    assert abs(found.count("valid") - 0.2 * total) <= 1
    assert abs(found.count("test") - 0.3 * total) <= 1


def test_the_limit_counts_rows_of_each_split_and_no_blank_lines(tmp_path):
    (tmp_path / "a").write_text("1\n\n2\n\n\n3\n4\n")
    (tmp_path / "b").write_text("5\n6\n7\n")
    reading = text_lines.Config(files={"train": ("a",), "test": ("b",)}, benchmarks=None)
    rows = Rows(lambda: text_lines.read(tmp_path, reading), 2)
    assert [(name, text) for name, batch in rows for text in batch["text"].to_pylist()] == [
        ("train", "1"),
        ("train", "2"),
        ("test", "5"),
        ("test", "6"),
    ]


# ---------------------------------------------------------------- vocabularies

TOKENS = st.lists(
    st.lists(st.sampled_from(["a", "b", "é", "ba", "B", "<unk>", "<eos>", "🙂"]), max_size=6),
    max_size=8,
)


@quick
@given(TOKENS, st.integers(1, 3), st.one_of(st.none(), st.integers(5, 9)))
def test_a_vocabulary_is_counts_down_then_tokens_up(rows, least, size):
    made = vocab.table(
        reduce(
            vocab.merge,
            [vocab.count(pa.array([row], pa.list_(pa.string()))) for row in [[], *rows]],
        ),
        vocab.Vocab(corpus="c", size=size, min_count=least, share=True),
    )
    counts = Counter(token for row in rows for token in row)
    ordered = sorted(
        ((-n, token) for token, n in counts.items() if n >= least and token not in SPECIALS)
    )
    want = [(token, -n) for n, token in ordered][: None if size is None else size - 4]
    assert made.schema == tables.VOCAB
    assert made["id"].to_pylist() == list(range(len(want) + 4))
    assert list(zip(made["token"].to_pylist(), made["count"].to_pylist(), strict=True))[4:] == want
    assert made["token"].to_pylist()[:4] == list(SPECIALS)
    assert made["count"].to_pylist()[UNK] == sum(counts.values()) - sum(n for _, n in want)


def test_a_vocabulary_smaller_than_its_specials_is_refused():
    with pytest.raises(UserError, match=r"corpora\.c\.vocab\.size: got 4; expected more than 4"):
        config.load(
            vocab.Vocab,
            {"corpus": "c", "size": 4, "min_count": 1, "share": True},
            "corpora.c.vocab",
        )


@pytest.mark.parametrize("size", [None, 259])
def test_a_bpe_without_room_for_every_byte_is_refused(size):
    with pytest.raises(UserError, match=r"corpora\.c\.vocab\.size: got \w+; expected at least 260"):
        vocab.check_pieces(
            vocab.Vocab(corpus="c", size=size, min_count=1, share=True), "corpora.c.vocab"
        )


def _codec(texts: list[str], level: str, size: int | None = None) -> Codec:
    tokens = split(normalise(pa.array(texts), False, False), level)
    wanted = vocab.Vocab(corpus="c", size=size, min_count=1, share=True)
    tokenizer = bpe.train(iter([tokens]), wanted) if level == "bpe" else None
    counts = bpe.count(tokenizer, tokens) if tokenizer else vocab.count(tokens)
    made = bpe.table(tokenizer, counts) if tokenizer else vocab.table(counts, wanted)
    about = Description(
        level=level,
        lowercase=False,
        letters_only=False,
        share=True,
        sides=("text",),
        sizes={"text": len(made)},
    )
    return Codec(about, made["token"].combine_chunks(), tokenizer)


CORPUS = [
    "he's calm , the café is calm .",
    "l'eau <unk> est calme !",
    "the theme of the café : <eos> 3.14",
]


@pytest.fixture(scope="module")
def pieces() -> Codec:
    return _codec(CORPUS * 3, "bpe", 290)


@quick
@given(MANY)
def test_bpe_gives_back_every_normalised_text_exactly(pieces, texts):
    raw = pa.array(texts, pa.string())
    normal = normalise(raw, False, False).to_pylist()
    assert pieces.decode_batch(pieces.encode(raw).to_pylist()) == normal


@quick
@given(MANY)
def test_bpe_by_distinct_words_is_the_librarys_own_encoding(pieces, texts):
    normal = normalise(pa.array(texts, pa.string()), False, False)
    own = [pieces._tokenizer.encode(text).ids for text in normal.to_pylist()]
    assert pieces.encode(normal).to_pylist() == own


@quick
@given(st.lists(st.text("".join(sorted(set("".join(CORPUS)))), max_size=30)))
def test_characters_give_back_every_normalised_text_of_their_alphabet_exactly(texts):
    codec = _codec(CORPUS, "char")
    assert codec.decode_batch(codec.encode(pa.array(texts, pa.string())).to_pylist()) == many(texts)


@pytest.mark.parametrize("level", ["word", "space", "char"])
def test_encoding_is_a_look_up_with_unknown_for_the_rest(level):
    codec = _codec(CORPUS, level)
    texts = ["the tea <eos> is <unk> calm", "", "zzz ж"]
    tokens = split(pa.array(texts), level)
    numbers = {
        token: number
        for number, token in enumerate(codec._tokens.to_pylist())
        if number not in (PAD, BOS, EOS)
    }
    want = [[numbers.get(token, UNK) for token in row] for row in tokens.to_pylist()]
    assert codec.encode(pa.array(texts)).to_pylist() == want
    assert codec.encode_tokens(tokens.slice(1)).to_pylist() == want[1:]
    assert codec.encode(pa.array([], pa.string())).to_pylist() == []


def test_a_special_written_in_a_text_never_becomes_one(pieces):
    for codec in (pieces, _codec(CORPUS, "word"), _codec(CORPUS, "space"), _codec(CORPUS, "char")):
        ids = codec.encode(pa.array(["<pad> <bos> <eos> </s> <eos>"])).flatten().to_pylist()
        assert not {PAD, BOS, EOS} & set(ids)


def test_decoding_omits_specials_and_shows_unk():
    codec = _codec(CORPUS, "word")
    ids = codec.encode(pa.array(["l'eau est blue !"]))[0].as_py()
    assert codec.decode([BOS, *ids, EOS, PAD, PAD]) == "l'eau est <unk>!"
    assert codec.tokens([BOS, *ids, EOS]) == ["<bos>", "l'", "eau", "est", "<unk>", "!", "<eos>"]
    assert codec.decode_batch([]) == []
    assert codec.decode([]) == ""


def test_tokens_are_readable_at_every_level(pieces):
    ids = pieces.encode(pa.array(["the café"]))[0].as_py()
    assert "".join(pieces.tokens(ids)).replace("▁", " ") == "the café"
    codec = _codec(CORPUS, "char")
    assert codec.tokens([BOS, *codec.encode(pa.array(["é c"]))[0].as_py()]) == [
        "<bos>",
        "é",
        "▁",
        "c",
    ]


def test_bpe_training_is_the_same_every_time_and_its_specials_come_first(pieces):
    again = _codec(CORPUS * 3, "bpe", 290)
    assert again._tokenizer.to_str() == pieces._tokenizer.to_str()
    assert pieces._tokens.to_pylist()[:4] == list(SPECIALS)
    assert pieces.size == 290


# ---------------------------------------------------------------- the stages

PAIRS = [
    (f"The {noun} is {how}.", f"{le} {nom} est {comme}.")
    for noun, le, nom in [
        ("cat", "Le", "chat"),
        ("tree", "L'", "arbre"),
        ("sun", "Le", "soleil"),
        ("moon", "La", "lune"),
    ]
    for how, comme in [
        ("old", "vieux"),
        ("big", "grand"),
        ("here", "ici"),
        ("calm", "calme"),
        ("lost", "perdu"),
    ]
]
TEXT = {"level": "word", "lowercase": True, "letters_only": False, "max_tokens": 9}


def _block(**changes) -> dict:
    block = {
        "format": "tab_separated_pairs",
        "source": {},
        "read": {"files": {"all": ["p.txt"]}, "source_column": 0, "target_column": 1},
        "limit": None,
        "split": {"method": "hash", "valid": 0.2, "test": 0.2},
        "text": TEXT,
        "vocab": {"corpus": "c", "size": None, "min_count": 1, "share": False},
        "bleu_tokenizer": "auto",
        "samples": [],
    }
    return block | changes


def _lay(folder: Path, lines: list[str], **changes) -> Path:
    raw = folder / "data/raw/c"
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "p.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (raw / "limits.json").write_text("{}")
    (folder / "params.yaml").write_text(
        yaml.safe_dump({"compute": stage_runs.HERE, "corpora": {"c": _block(**changes)}})
    )
    return folder


def _run(folder: Path, *stages: str) -> None:
    for name in stages or ("tokenize", "vocab", "encode"):
        stage_runs.run(folder, name, "c")


def _pairs(folder: Path, name: str) -> list[dict]:
    return tables.read(folder / f"data/tokens/c/{name}.parquet", tables.TOKENS_PAIR).to_pylist()


LINES = [f"{a}\t{b}" for a, b in PAIRS] + [
    "",
    "no tab",
    "empty\t \u200b",
    "long\t" + "x " * 10,
    "the CAT is old.\tUn vieux chat.",
]


def test_rows_are_kept_once_in_one_split_or_rejected_with_a_reason(tmp_path, monkeypatch):
    _run(_lay(tmp_path, LINES))
    names = ("train", "valid", "test")
    kept = {name: _pairs(tmp_path, name) for name in names}
    rejects = tables.read(tmp_path / "data/tokens/c/rejects.parquet", tables.REJECTS).to_pylist()
    assert sorted((row["source"], row["target"]) for name in names for row in kept[name]) == sorted(
        [*PAIRS, ("the CAT is old.", "Un vieux chat.")]
    )
    assert sorted(row["reason"] for row in rejects) == [
        "target has more than 9 tokens",
        "target is empty",
        "too few columns: 1 of 2",
    ]
    assert all([row["row"] for row in kept[name]] == list(range(len(kept[name]))) for name in names)
    found = json.loads((tmp_path / "reports/corpora/c.json").read_text())
    assert found["blank_lines"] == 1
    for name in names:
        counted = found["splits"][name]
        assert counted["rows"] == len(kept[name])
        assert counted["source_tokens"] == sum(len(row["source_tokens"]) for row in kept[name])
        assert counted["target_characters"] == sum(len(row["target"]) for row in kept[name])
        assert counted["distinct_sources"] == len({row["source"].lower() for row in kept[name]})
        assert counted["rejected"] == dict(
            Counter(row["reason"] for row in rejects if row["split"] == name)
        )
        assert counted.get("sources_also_in_train", 0) == 0
    assert (tmp_path / "data/tokens/c/limits.json").exists()
    assert describe(tmp_path / "data/vocab/c").sizes.keys() == {"source", "target"}


def test_duplicates_and_overlap_are_counted_as_sets_would(tmp_path, monkeypatch):
    files = {
        "train": ["a\tx", "a\ty", "b\tz", "A\tx", "c\tx"],
        "valid": ["a\tx", "a\tw", "n\tn"],
        "test": ["x\ta", "x\ta", "b\tz"],
    }
    _lay(
        tmp_path,
        [],
        read={"files": {name: [name] for name in files}, "source_column": 0, "target_column": 1},
        split="official",
    )
    for name, rows in files.items():
        (tmp_path / "data/raw/c" / name).write_text("\n".join(rows))
    _run(tmp_path, "tokenize")
    found = json.loads((tmp_path / "reports/corpora/c.json").read_text())["splits"]
    train = {tuple(row.lower().split("\t")) for row in files["train"]}
    for name, rows in files.items():
        pairs = [tuple(row.lower().split("\t")) for row in rows]
        assert found[name]["duplicates"] == len(pairs) - len(set(pairs))
        if name != "train":
            assert found[name]["rows_also_in_train"] == sum(pair in train for pair in pairs)
            assert found[name]["sources_also_in_train"] == sum(
                pair[0] in {source for source, _ in train} for pair in pairs
            )


@pytest.mark.parametrize(
    ("level", "size", "share"),
    [("word", None, False), ("char", None, True), ("bpe", 280, True), ("bpe", 280, False)],
)
def test_a_second_run_leaves_the_same_bytes_and_ids_lead_back_to_the_text(
    tmp_path, monkeypatch, level, size, share
):
    def bytes_of() -> dict[str, bytes]:
        return {
            str(p.relative_to(tmp_path)): p.read_bytes()
            for p in sorted(tmp_path.rglob("*"))
            if p.is_file()
        }

    _lay(
        tmp_path,
        LINES,
        text=TEXT | {"level": level, "max_tokens": None},
        vocab={"corpus": "c", "size": size, "min_count": 1, "share": share},
    )
    _run(tmp_path)
    first = bytes_of()
    _run(tmp_path)
    assert bytes_of() == first
    folder = tmp_path / "data/vocab/c"
    ids = tables.read(tmp_path / "data/encoded/c/train.parquet", tables.ENCODED_PAIR)
    for side in ("source", "target"):
        codec, rows = Codec.load(folder, side), _pairs(tmp_path, "train")
        want = [
            text.replace("' ", "'") if level == "word" else text
            for text in many([row[side] for row in rows], True)
        ]
        assert codec.decode_batch(ids[side].to_pylist()) == want
        counts = tables.read(folder / f"{side}.parquet", tables.VOCAB)["count"].to_numpy()
        both = (
            ids[side].combine_chunks().flatten().to_numpy()
            if not share
            else np.concatenate([ids[s].combine_chunks().flatten() for s in ("source", "target")])
        )
        assert (np.bincount(both, minlength=codec.size) == counts).all()
    same = (folder / "source.parquet").read_bytes() == (folder / "target.parquet").read_bytes()
    assert same == share


def test_changing_level_and_case_moves_no_row(tmp_path, monkeypatch):
    placed = []
    for level, lowercase in (("word", True), ("char", False), ("bpe", False)):
        _lay(
            tmp_path,
            LINES[:20],
            text={
                "level": level,
                "lowercase": lowercase,
                "letters_only": False,
                "max_tokens": None,
            },
        )
        _run(tmp_path, "tokenize")
        placed.append(
            [
                [row["source"] for row in _pairs(tmp_path, name)]
                for name in ("train", "valid", "test")
            ]
        )
    assert placed[0] == placed[1] == placed[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"limit": 1},
            (
                r"corpora\.c\.limit: got no usable row for \w+ \(0 rejected\); expected at least "
                r"one in each of"
            ),
        ),
        ({"limit": 0}, r"corpora\.c\.limit: got 0; expected at least 1"),
        (
            {"split": "official"},
            r"corpora\.c\.split: got official; expected method: hash, contiguous or folds",
        ),
        (
            {"text": TEXT | {"max_tokens": 1}},
            r"corpora\.c\.split: got no usable row for train \(\d+ rejected\)",
        ),
        ({"text": TEXT | {"max_tokens": 0}}, r"corpora\.c\.text\.max_tokens: got 0"),
        (
            {"text": TEXT | {"level": "syllable"}},
            r"corpora\.c\.text\.level: got syllable; expected one of char, word, space, bpe",
        ),
        (
            {"format": "tab_separated_pair"},
            r"corpora\.c\.format: got tab_separated_pair; .*Did you mean 'tab_separated_pairs'",
        ),
        (
            {
                "read": {"files": {"train": ["p.txt"]}, "source_column": 0, "target_column": 1},
                "split": "official",
            },
            r"corpora\.c\.read: got the splits train; expected train, valid, test",
        ),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused_by_name_and_leaves_nothing(
    tmp_path, monkeypatch, changes, message
):
    _lay(tmp_path, LINES, **changes)
    with pytest.raises(UserError, match=message):
        _run(tmp_path, "tokenize")
    assert not (tmp_path / "data/tokens/c").exists()
    assert not (tmp_path / "reports/corpora/c.json").exists()


def _peaks(folder: Path, monkeypatch, count: int) -> tuple[int, int]:
    """Bytes that Arrow, and Python with numpy, held at their worst through the three stages on
    `count` rows."""
    lines = [f"{number % 997} {'some words of text ' * 4}{number}" for number in range(count)]
    read = {"files": {"all": ["p.txt"]}, "benchmarks": None}
    text = {"level": "word", "lowercase": False, "letters_only": False, "max_tokens": None}
    _lay(
        folder,
        lines,
        format="text_lines",
        read=read,
        text=text,
        vocab={"corpus": "c", "size": 1000, "min_count": 2, "share": True},
    )
    del lines
    usual, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        _run(folder)
        return pool.max_memory(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


@pytest.mark.long
def test_peak_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    # full blocks and row groups in the small corpus too
    monkeypatch.setattr("pipeline.corpora._BLOCK", 1 << 18)
    monkeypatch.setattr("pipeline.text.rows._ROW_GROUP_BYTES", 1 << 20)
    few, many = 40_000, 120_000
    arrow, python = _peaks(tmp_path / "few", monkeypatch, few)
    more_arrow, more_python = _peaks(tmp_path / "many", monkeypatch, many)
    assert more_arrow < 1.5 * arrow
    assert more_python < 1.5 * python + 64 * (many - few)  # the digests, and sorting them


def _counted(how: params.Splitting, names: list[str]) -> dict[str, set[str]]:
    """What 600 made texts come to, split by split, when their reader calls them `names` in turn."""
    splitter, found = Splitter(how, {}), {}
    texts = pa.array([f"text number {number}" for number in range(600)])
    batch = pa.record_batch(
        [texts, pa.repeat("a", 600), pa.nulls(600, pa.string())], schema=tables.RAW_LABELLED
    )
    ready = prepare(batch, Text(level="word", lowercase=False, letters_only=False, max_tokens=None))
    for name in names:
        for text, split_name in zip(
            texts.to_pylist(), splitter.names(name, ready).to_pylist(), strict=True
        ):
            found.setdefault(split_name, set()).add(text)
        assert set(splitter.possible(name)) >= set(found)
    return found


def test_every_row_is_tested_in_one_fold_and_valid_in_the_fold_before() -> None:
    folds = [
        _counted(params.Folds(method="folds", folds=5, fold=fold), ["all"]) for fold in range(5)
    ]
    everything = folds[0]["train"] | folds[0]["valid"] | folds[0]["test"]
    assert sum(len(fold["test"]) for fold in folds) == len(everything) == 600
    assert set().union(*(fold["test"] for fold in folds)) == everything
    for number, fold in enumerate(folds):
        assert fold["valid"] == folds[(number + 1) % 5]["test"]
        assert fold["train"] == everything - fold["valid"] - fold["test"]
        assert len(fold["test"]) == pytest.approx(120, abs=50)


def test_valid_may_be_cut_out_of_an_official_train_and_nothing_else_moves() -> None:
    how = params.OutOfTrain(method="out_of_train", valid=0.2)
    found = _counted(how, ["train"])
    assert found.keys() == {"train", "valid"}
    assert not found["train"] & found["valid"]
    assert len(found["valid"]) == pytest.approx(120, abs=50)
    assert _counted(how, ["test"]).keys() == {"test"}


@pytest.mark.parametrize(
    ("block", "line"),
    [
        (
            {"method": "fold", "folds": 10, "fold": 1},
            "c.split.method: got fold; expected one of hash, contiguous, folds, ",
        ),
        (
            {"method": "folds", "folds": 10, "fold": 10},
            "c.split.fold: got 10; expected a number from 0 to 9",
        ),
        ({"method": "folds", "folds": 2, "fold": 1}, "c.split.folds: got 2; expected at least 3"),
        ({"method": "folds", "valid": 0.1, "test": 0.1}, "c.split.valid: got an unknown key"),
        (
            {"method": "out_of_train", "valid": 1.0},
            "c.split.valid: got 1.0; expected a share between 0 and 1",
        ),
        ({"valid": 0.1}, "c.split.method: got nothing; expected one of hash"),
        ("hash", "c.split: got hash; expected official, or a section with a method: hash, "),
    ],
)
def test_a_split_that_cannot_be_is_refused_by_its_key(block: object, line: str) -> None:
    with pytest.raises(UserError) as refused:
        params.split(config.load(params.Corpus, _block(split=block), "c"), "c")
    assert str(refused.value).startswith(line)


# ---------------------------------------------------------------- labels


def _labelled(folder: Path, counts: dict[str, int], **changes) -> Path:
    read = {"files": {"all": {label: [f"{label}.txt"] for label in counts}}}
    text = {"level": "word", "lowercase": True, "letters_only": False, "max_tokens": None}
    _lay(folder, [], format="labelled_lines", text=text, **({"read": read} | changes))
    for label, count in counts.items():
        texts = "".join(f"{label} text number {number}\n" for number in range(count))
        (folder / f"data/raw/c/{label}.txt").write_text(texts)
    return folder


def _labels_of(folder: Path) -> dict[str, Counter[str]]:
    paths = {name: folder / f"data/tokens/c/{name}.parquet" for name in ("train", "valid", "test")}
    return {
        name: Counter(tables.read(path, tables.TOKENS_LABELLED)["label"].to_pylist())
        for name, path in paths.items()
    }


@quick
@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 50), min_size=1), st.integers(1, 200)
)
def test_a_limit_is_divided_in_proportion(counts, limit):
    found = shares(counts, limit)
    total = sum(counts.values())
    assert sum(found.values()) == min(limit, total)
    assert all(0 <= found[label] <= counts[label] for label in counts)
    if limit >= len(counts):
        assert min(found.values()) >= 1
    if limit * min(counts.values()) >= total:  # no label is too rare for its share
        assert all(
            abs(found[label] - min(limit, total) * counts[label] / total) < 1 for label in counts
        )


def test_a_limit_takes_rows_of_every_label_in_proportion(tmp_path):
    _run(_labelled(tmp_path, {"neg": 100, "pos": 100}, limit=110), "tokenize")
    assert sum(_labels_of(tmp_path).values(), Counter()) == {"neg": 55, "pos": 55}
    texts = [
        row["text"]
        for name in ("train", "valid", "test")
        for row in tables.read(
            tmp_path / f"data/tokens/c/{name}.parquet", tables.TOKENS_LABELLED
        ).to_pylist()
    ]
    assert set(texts) == {
        f"{label} text number {number}" for label in ("neg", "pos") for number in range(55)
    }


def test_a_limit_divides_each_official_split_by_itself(tmp_path):
    sizes = {"train": (90, 30), "valid": (3, 30), "test": (5, 5)}
    read = {
        "files": {name: {label: [f"{name}.{label}"] for label in ("neg", "pos")} for name in sizes}
    }
    _labelled(tmp_path, {}, limit=12, split="official", read=read)
    for name, counts in sizes.items():
        for label, count in zip(("neg", "pos"), counts, strict=True):
            lines = "".join(f"\n{name} {label} {number}\n" for number in range(count))
            (tmp_path / f"data/raw/c/{name}.{label}").write_text(lines)
    _run(tmp_path, "tokenize")
    assert _labels_of(tmp_path) == {
        "train": {"neg": 9, "pos": 3},
        "valid": {"neg": 1, "pos": 11},
        "test": {"neg": 5, "pos": 5},
    }


@pytest.mark.parametrize("limit", [None, 60])
def test_contiguous_parts_hold_every_label_in_proportion(tmp_path, limit):
    how = {"method": "contiguous", "valid": 0.2, "test": 0.2}
    _run(_labelled(tmp_path, {"neg": 50, "pos": 100}, split=how, limit=limit), "tokenize")
    share = 1 if limit is None else limit / 150
    assert _labels_of(tmp_path) == {
        "train": {"neg": 30 * share, "pos": 60 * share},
        "valid": {"neg": 10 * share, "pos": 20 * share},
        "test": {"neg": 10 * share, "pos": 20 * share},
    }
    train = tables.read(tmp_path / "data/tokens/c/train.parquet", tables.TOKENS_LABELLED)[
        "text"
    ].to_pylist()
    assert train[0] == "neg text number 0"
    assert train == sorted(train, key=lambda text: (text.split()[0], int(text.split()[-1])))


@pytest.mark.parametrize(
    ("counts", "changes", "key"),
    [
        ({"neg": 200, "pos": 1}, {}, "split"),
        ({"neg": 200, "pos": 1}, {"split": {"method": "folds", "folds": 3, "fold": 0}}, "split"),
        (
            {"neg": 200, "pos": 2},
            {"split": {"method": "contiguous", "valid": 0.1, "test": 0.1}},
            "split",
        ),
        ({"neg": 200, "pos": 4}, {"limit": 60}, "limit"),
    ],
)
def test_a_split_that_lacks_a_label_is_refused_by_both_names(tmp_path, counts, changes, key):
    with pytest.raises(
        UserError,
        match=(
            rf"^corpora\.c\.{key}: got no row of the label pos for (train|valid|test); "
            r"expected ev"
        ),
    ):
        _run(_labelled(tmp_path, counts, **changes), "tokenize")
    assert not (tmp_path / "data/tokens/c").exists()


@pytest.mark.parametrize("lacking", ["train", "valid", "test"])
def test_an_official_split_that_lacks_a_label_is_refused(tmp_path, lacking):
    read = {
        "files": {
            name: {"neg": ["neg.txt"], "pos": ["pos.txt"]} for name in ("train", "valid", "test")
        }
    }
    del read["files"][lacking]["pos"]
    _labelled(tmp_path, {"neg": 9, "pos": 9}, split="official", read=read)
    with pytest.raises(
        UserError,
        match=(
            rf"^corpora\.c\.read: got no row of the label pos for {lacking}; expected every "
            r"label"
        ),
    ):
        _run(tmp_path, "tokenize")


def test_valid_cut_out_of_train_must_have_every_label(tmp_path):
    read = {"files": {name: {"neg": ["neg.txt"], "pos": ["pos.txt"]} for name in ("train", "test")}}
    _labelled(
        tmp_path, {"neg": 90, "pos": 1}, split={"method": "out_of_train", "valid": 0.1}, read=read
    )
    with pytest.raises(
        UserError,
        match=r"^corpora\.c\.split: got no row of the label pos for (train|valid); expected every",
    ):
        _run(tmp_path, "tokenize")
