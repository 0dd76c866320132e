"""The generic formats: lines are lines, paragraphs are counted, sides stay in step, and mistakes
are named."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import corpora
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.corpora import (
    BLANK,
    labelled_archive,
    labelled_lines,
    parallel_text,
    tab_separated_pairs,
    text_lines,
    text_sentences,
)

STRANGE = "a\u0085b\u2028c\x0cd\re\x1cf"


def _lines(folder: Path, data: bytes, block: int = 1 << 20) -> list[str]:
    path = folder / "file.txt"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(corpora, "_BLOCK", block)
        return [
            line for batch in corpora.read_lines(folder, path.name) for line in batch.to_pylist()
        ]


def _rows(batches) -> list[tuple[str, dict]]:
    return [(split, row) for split, batch in batches for row in batch.to_pylist()]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few bytes, so that every test crosses their borders."""
    monkeypatch.setattr(corpora, "_BLOCK", 16)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("aé中🙂\u0085\u2028 \t", max_size=12), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
)
def test_lines_end_with_lf_or_crlf_and_with_nothing_else(tmp_path_factory, texts, ending, block):
    data = "".join(text + ending for text in texts).encode()
    assert _lines(tmp_path_factory.mktemp("lines"), data, block) == texts


def test_a_last_line_without_an_end_and_a_byte_order_mark_are_no_trouble(tmp_path):
    assert _lines(tmp_path, b"\xef\xbb\xbf" + f"{STRANGE}\r\nlast".encode()) == [STRANGE, "last"]


def test_invalid_utf8_is_reported_with_file_offset_and_line(tmp_path):
    good = "première ligne\n".encode() * 5
    with pytest.raises(
        UserError,
        match=rf"file.txt: got byte 0xe9 at offset {len(good) + 3}, line 6; expected UTF-8",
    ):
        _lines(tmp_path, good + b"caf\xe9\n" + good)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"file\.txt: got an empty file"):
        _lines(tmp_path, b"")


def test_a_missing_file_is_refused_with_the_names_that_are_there(tmp_path):
    (tmp_path / "train.txt").write_text("x\n")
    reading = config.load(
        text_lines.Config, {"files": {"all": ["trian.txt"]}, "benchmarks": None}, "corpora.c.read"
    )
    with pytest.raises(UserError, match=r"trian.txt: got no such file; expected one of train.txt"):
        list(text_lines.read(tmp_path, reading))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.sampled_from(["one", "two words", "", "  ", "\t", "\u00a0"]), min_size=1, max_size=40
    )
)
def test_paragraphs_are_the_blocks_between_blank_lines(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("paragraphs")
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("".join(f"{text}\n" for text in texts))
    reading = config.load(
        text_lines.Config, {"files": {"train": ["a.txt", "b.txt"]}, "benchmarks": None}, "read"
    )
    got = [
        row["paragraph"]
        for _, row in _rows(text_lines.read(folder, reading))
        if row["reject"] != BLANK
    ]
    want, paragraph = [], -1
    for _ in range(2):
        before = ""
        for text in texts:
            if text.strip():
                paragraph += not before.strip()
                want.append(paragraph)
            before = text
    assert got == want


def test_lines_are_paragraphs_split_at_separate_full_stops(tmp_path):
    (tmp_path / "a.txt").write_text(
        " = A title = \n\n It cost 3.5 @.@ or so . He ran . \n The end .\n"
    )
    (tmp_path / "b.txt").write_text("One . . Two\n")
    reading = config.load(text_sentences.Config, {"files": {"train": ["a.txt", "b.txt"]}}, "read")
    found = [
        row for _, row in _rows(text_sentences.read(tmp_path, reading)) if row["reject"] != BLANK
    ]
    assert [(row["paragraph"], row["text"]) for row in found] == [
        (0, "= A title ="),
        (2, "It cost 3.5 @.@ or so ."),
        (2, "He ran ."),
        (3, "The end ."),
        (4, "One ."),
        (4, ". Two"),
    ]


def test_blank_lines_are_marked_and_keep_their_place(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n \u3000\ntwo\n")
    reading = config.load(
        text_lines.Config, {"files": {"train": ["a.txt"]}, "benchmarks": None}, "read"
    )
    found = _rows(text_lines.read(tmp_path, reading))
    assert [(row["text"], row["reject"]) for _, row in found] == [
        ("one", None),
        ("", BLANK),
        (" \u3000", BLANK),
        ("two", None),
    ]
    assert {split for split, _ in found} == {"train"}


def test_a_tab_separated_line_with_too_few_columns_is_a_reject_with_its_text(tmp_path):
    (tmp_path / "p.txt").write_text('Go.\tVa !\tCC-BY\n"Hi.\t"Salut\nno tab\n\t\n\nx\t\n')
    block = {"files": {"all": ["p.txt"]}, "source_column": 0, "target_column": 1}
    found = _rows(
        tab_separated_pairs.read(tmp_path, config.load(tab_separated_pairs.Config, block, "read"))
    )
    assert [(row["source"], row["target"], row["reject"]) for _, row in found] == [
        ("Go.", "Va !", None),
        ('"Hi.', '"Salut', None),
        ("no tab", "", "too few columns: 1 of 2"),
        ("", "", BLANK),
        ("", "", BLANK),
        ("x", "", None),
    ]


def test_columns_are_taken_as_numbered(tmp_path):
    (tmp_path / "p.txt").write_text("id\tbonjour\thello\nid\tshort\n")
    block = {"files": {"all": ["p.txt"]}, "source_column": 2, "target_column": 1}
    found = _rows(
        tab_separated_pairs.read(tmp_path, config.load(tab_separated_pairs.Config, block, "read"))
    )
    assert [(row["source"], row["target"]) for _, row in found] == [
        ("hello", "bonjour"),
        ("id\tshort", ""),
    ]
    assert found[1][1]["reject"] == "too few columns: 2 of 3"


@pytest.mark.parametrize(("source", "target"), [(0, 0), (-1, 1), (1, -1)])
def test_columns_that_make_no_pair_are_refused(source, target):
    block = {"files": {"all": ["p.txt"]}, "source_column": source, "target_column": target}
    with pytest.raises(UserError, match=r"^corpora\.c\.read\.\w+_column: got"):
        config.load(tab_separated_pairs.Config, block, "corpora.c.read")


def _parallel(folder: Path, source: str, target: str):
    (folder / "s").write_text(source)
    (folder / "t").write_text(target)
    block = {"files": {"train": {"source": ["s"], "target": ["t"]}}}
    return parallel_text.read(folder, config.load(parallel_text.Config, block, "read"))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.text("ab é", max_size=30), st.text("ab é", max_size=30)),
        min_size=1,
        max_size=40,
    )
)
def test_parallel_lines_stay_together_however_long_either_is(tmp_path_factory, pairs):
    source, target = ("".join(f"{pair[side]}\n" for pair in pairs) for side in (0, 1))
    found = _rows(_parallel(tmp_path_factory.mktemp("pairs"), source, target))
    assert [(row["source"], row["target"]) for _, row in found] == pairs
    assert [row["reject"] == BLANK for _, row in found] == [
        not (s.strip() or t.strip()) for s, t in pairs
    ]


@pytest.mark.parametrize(("left", "right"), [(50, 49), (3, 50), (1, 2)])
def test_parallel_files_of_unequal_lengths_are_refused_with_both_counts(tmp_path, left, right):
    with pytest.raises(UserError, match=rf"t: got {right} lines; expected {left} lines, as s has"):
        list(_parallel(tmp_path, "line\n" * left, "a longer line\n" * right))


@pytest.mark.parametrize("module", [text_lines, text_sentences, tab_separated_pairs, parallel_text])
def test_formats_describe_their_input_and_refuse_bad_keys(module):
    rest = {
        tab_separated_pairs: {"source_column": 0, "target_column": 1},
        text_lines: {"benchmarks": None},
    }.get(module, {})
    assert module.KIND in ("text", "pair")
    with pytest.raises(UserError, match=r"corpora\.c\.read\.file: got an unknown key"):
        config.load(module.Config, {"file": {}, **rest}, "corpora.c.read")
    with pytest.raises(UserError, match=r"corpora\.c\.read\.files: got no split"):
        config.load(module.Config, {"files": {}, **rest}, "corpora.c.read")


def test_sides_with_unlike_numbers_of_files_are_refused():
    block = {"files": {"train": {"source": ["a", "b"], "target": ["c"]}}}
    with pytest.raises(
        UserError,
        match=r"read\.files\.train\.target: got 1 files; expected as many as source \(2\)",
    ):
        config.load(parallel_text.Config, block, "read")


def test_batches_have_the_schemas_of_tables(tmp_path):
    (tmp_path / "a.txt").write_text("x\ty\n")
    texts = config.load(
        text_lines.Config, {"files": {"all": ["a.txt"]}, "benchmarks": None}, "read"
    )
    block = {"files": {"all": ["a.txt"]}, "source_column": 0, "target_column": 1}
    pairs = config.load(tab_separated_pairs.Config, block, "read")
    assert all(batch.schema == tables.RAW_TEXT for _, batch in text_lines.read(tmp_path, texts))
    assert all(
        batch.schema == tables.RAW_PAIR for _, batch in tab_separated_pairs.read(tmp_path, pairs)
    )
    assert all(batch.schema == tables.RAW_PAIR for _, batch in _parallel(tmp_path, "a\n", "b\n"))


def test_every_line_has_the_label_of_its_file(tmp_path):
    for name, text in {"a.pos": "good\n\nfine\n", "b.pos": "great\n", "a.neg": "bad\n"}.items():
        (tmp_path / name).write_text(text)
    block = {"files": {"all": {"pos": ["a.pos", "b.pos"], "neg": ["a.neg"]}}}
    found = _rows(labelled_lines.read(tmp_path, config.load(labelled_lines.Config, block, "read")))
    assert {split for split, _ in found} == {"all"}
    assert [(row["text"], row["label"]) for _, row in found if row["reject"] is None] == [
        ("good", "pos"),
        ("fine", "pos"),
        ("great", "pos"),
        ("bad", "neg"),
    ]
    assert [row["text"] for _, row in found if row["reject"] == BLANK] == [""]


@pytest.mark.parametrize(
    "files", [{}, {"train": {}}, {"train": {"pos": []}}, {"Train": {"pos": ["a"]}}]
)
def test_labelled_files_that_say_nothing_are_refused(files):
    with pytest.raises(UserError, match=r"^c\.read\.files"):
        config.load(labelled_lines.Config, {"files": files}, "c.read")


@pytest.mark.parametrize(
    "labels",
    [
        ["正面", "负面"],
        ["خبر\u200cها", "ورزش"],  # Persian: words with a joiner of no width
        ["👨\u200d👩\u200d👧", "👍"],
        ["c#", "c+", "a/b", "très bon", "a b", "1"],
    ],
)
def test_labels_of_every_script_are_read(labels: list[str]):
    files = {"all": {label: [f"{i}.txt"] for i, label in enumerate(labels)}}
    assert (
        list(config.load(labelled_lines.Config, {"files": files}, "c.read").files["all"]) == labels
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["خبر\u200cها", "خبرها"], "expected labels that differ in more than case or form"),
        (["\u200d", "bad"], "expected labels of printable characters"),
        (["a\u202eb", "bad"], "expected labels of printable characters"),
    ],
)
def test_labels_that_differ_in_invisible_characters_are_refused(labels: list[str], said: str):
    files = {"all": {label: [f"{i}.txt"] for i, label in enumerate(labels)}}
    with pytest.raises(UserError) as refusal:
        config.load(labelled_lines.Config, {"files": files}, "c.read")
    assert said in str(refusal.value)


def _archive(folder: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder


FOLDERS = {
    "train": {"no": ["d/train/neg"], "yes": ["d/train/pos"]},
    "test": {"no": ["d/test/neg"], "yes": ["d/test/pos"]},
}


def _read_archive(folder: Path, folders: dict = FOLDERS) -> list[tuple[str, dict]]:
    block = {"archive": "a.tar.gz", "folders": folders}
    return _rows(
        labelled_archive.read(folder, config.load(labelled_archive.Config, block, "c.read"))
    )


def test_every_file_of_an_archive_is_a_row_under_its_folders_label(tmp_path):
    members = [
        (f"./d/{split}/{label}/{n}.txt", f"{label} {n}<br />é\u0085\n".encode())
        for split in ("train", "test")
        for label in ("neg", "pos")
        for n in range(3)
    ]
    _archive(
        tmp_path,
        ("d/README", b"\xff"),
        ("d/train/unsup/0.txt", b"\xff"),
        *members,
        ("d/train/pos/deep/0.txt", b"x"),
    )
    found = [(split, row["label"], row["text"]) for split, row in _read_archive(tmp_path)]
    assert found == [
        (split, {"neg": "no", "pos": "yes"}[label], f"{label} {n}<br />é\u0085\n")
        for split in ("train", "test")
        for label in ("neg", "pos")
        for n in range(3)
    ]


def test_texts_of_an_archive_come_in_small_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(labelled_archive, "_BATCH", 100)
    _archive(tmp_path, *((f"d/{n}", b"x" * 30) for n in range(20)))
    block = {"archive": "a.tar.gz", "folders": {"all": {"x": ["d"]}}}
    sizes = [
        len(batch)
        for _, batch in labelled_archive.read(
            tmp_path, config.load(labelled_archive.Config, block, "r")
        )
    ]
    assert sum(sizes) == 20
    assert max(sizes) <= 4


def test_a_folder_that_the_archive_lacks_is_refused(tmp_path):
    _archive(tmp_path, ("d/train/neg/0", b"x"))
    with pytest.raises(
        UserError,
        match=r"a.tar.gz: got no file in d/test/neg; expected files in every folder of `read`",
    ):
        _read_archive(tmp_path)


def test_links_in_an_archive_are_no_texts(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("d/0")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="got no file in d"):
        _read_archive(tmp_path, {"all": {"x": ["d"]}})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda data: data[: len(data) // 2],
            r"a.tar.gz: got .*; expected a tar.gz that can be read",
        ),
        (lambda data: b"no gzip" + data, r"a.tar.gz: got .*; expected a tar.gz that can be read"),
        (
            lambda data: gzip.compress(b"no tar" * 200),
            r"a.tar.gz: got .*; expected a tar.gz that can be read",
        ),
    ],
)
def test_a_damaged_archive_is_refused_in_one_line(tmp_path, damage, message):
    path = (
        _archive(tmp_path, *((f"d/{n}", bytes(range(n, n + 90))) for n in range(1, 31)))
        / "a.tar.gz"
    )
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        _read_archive(tmp_path, {"all": {"x": ["d"]}})


def test_invalid_or_oversized_text_is_reported_by_file_name(tmp_path, monkeypatch):
    _archive(tmp_path, ("d/0", b"caf\xe9"))
    with pytest.raises(
        UserError, match=r"a.tar.gz: d/0: got byte 0xe9 at offset 3, line 1; expected UTF-8"
    ):
        _read_archive(tmp_path, {"all": {"x": ["d"]}})
    monkeypatch.setattr(labelled_archive, "_MOST_TEXT", 3)
    with pytest.raises(UserError, match=r"d/0: got 4 bytes; expected a text of 3 bytes at most"):
        _read_archive(tmp_path, {"all": {"x": ["d"]}})


@pytest.mark.parametrize("folders", [{}, {"train": {"a": ["x"], "b": ["x"]}}, {"train": {"a": []}}])
def test_folders_that_make_no_corpus_are_refused(folders):
    with pytest.raises(UserError, match=r"^c\.read\.(files|folders): got"):
        config.load(labelled_archive.Config, {"archive": "a", "folders": folders}, "c.read")


UTF16 = "good morning\nbad evening\n" * 20


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            UTF16.encode("utf-16"),
            (
                "byte 0xff at offset 0: the mark of UTF-16; expected UTF-8. Convert the file: "
                "iconv "
                "-f UTF-16 "
            ),
        ),
        (
            UTF16.encode("utf-32"),
            (
                "byte 0xff at offset 0: the mark of UTF-32; expected UTF-8. Convert the file: "
                "iconv "
                "-f UTF-32 "
            ),
        ),
        (
            UTF16.encode("utf-16-le"),
            "byte 0x00 at offset 1, line 1: UTF-16LE; expected UTF-8. Convert the file: iconv -f ",
        ),
        (
            UTF16.encode("utf-16-be"),
            "byte 0x00 at offset 0, line 1: UTF-16BE; expected UTF-8. Convert the file: iconv -f ",
        ),
        (
            UTF16.encode("utf-32-le"),
            "byte 0x00 at offset 1, line 1: UTF-32LE; expected UTF-8. Convert the file: iconv -f ",
        ),
        ("中文\n文本\n".encode("utf-16-le"), "byte 0x"),
        (
            b"one\ntwo\nth\x00ree\n",
            "byte 0x00 at offset 10, line 3; expected UTF-8 text without NUL bytes.",
        ),
    ],
)
def test_wrong_encoding_is_refused_with_the_byte_and_advice(tmp_path, data, said):
    with pytest.raises(UserError) as refused:
        _lines(tmp_path, data)
    assert str(refused.value).startswith(f"{tmp_path / 'file.txt'}: got {said}")
    assert "iconv" in str(refused.value)
    _archive(tmp_path, ("d/0", data))
    with pytest.raises(UserError, match=r"a\.tar\.gz: d/0: got byte 0x"):
        _read_archive(tmp_path, {"all": {"x": ["d"]}})


def test_a_byte_order_mark_of_a_text_in_an_archive_is_skipped(tmp_path):
    _archive(tmp_path, ("d/0", "\ufeffgood".encode()))
    assert [row["text"] for _, row in _read_archive(tmp_path, {"all": {"x": ["d"]}})] == ["good"]


def _with_similarity(name: str) -> dict:
    columns = {"name": "s", "file": name, "first": "a", "second": "b", "score": "c"}
    return {"files": {"all": ["a"]}, "benchmarks": {"similarity": [columns], "analogies": None}}


BLOCKS = {
    "text_lines": (text_lines, lambda name: {"files": {"all": [name]}, "benchmarks": None}),
    "similarity": (text_lines, _with_similarity),
    "analogies": (
        text_lines,
        lambda name: {"files": {"all": ["a"]}, "benchmarks": {"similarity": [], "analogies": name}},
    ),
    "text_sentences": (text_sentences, lambda name: {"files": {"all": [name]}}),
    "tab_separated_pairs": (
        tab_separated_pairs,
        lambda name: {"files": {"all": [name]}, "source_column": 0, "target_column": 1},
    ),
    "source": (parallel_text, lambda name: {"files": {"all": {"source": [name], "target": ["a"]}}}),
    "target": (parallel_text, lambda name: {"files": {"all": {"source": ["a"], "target": [name]}}}),
    "labelled_lines": (labelled_lines, lambda name: {"files": {"all": {"x": [name], "y": ["a"]}}}),
    "labelled_archive": (
        labelled_archive,
        lambda name: {"archive": name, "folders": {"all": {"x": ["d"]}}},
    ),
}


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "d/../../x", "..", "", ".", "a\0b"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_file_outside_of_the_corpus_s_folder_is_refused(block, name):
    module, made = BLOCKS[block]
    with pytest.raises(
        UserError, match=r"^corpora\.c\.read\.\S+: got .*; expected a file in the corpus's folder\."
    ):
        config.load(module.Config, made(name), "corpora.c.read")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_linked_folder_is_refused_and_a_linked_file_is_not(tmp_path, block):
    """DVC compares what a link to a file leads to, and passes over links to folders."""
    raw, beside = tmp_path / "raw", tmp_path / "beside"
    for folder in (raw, beside):
        folder.mkdir()
        (folder / "a").write_text("a,b,c\n1,2,3\n")
    _archive(beside, ("d/0", b"x")).joinpath("a.tar.gz").rename(beside / "file")
    if block != "labelled_archive":
        (beside / "file").write_text(": s\na b c d\n" if block == "analogies" else "a,b,c\n1,2,3\n")
    (raw / "linked").symlink_to(beside)
    (raw / "file").symlink_to(beside / "file")
    module, made = BLOCKS[block]

    def read(name: str) -> None:
        loaded = config.load(module.Config, made(name), "read")
        list(module.read(raw, loaded))
        list(module.benchmarks(raw, loaded)) if hasattr(module, "benchmarks") else None

    with pytest.raises(
        UserError, match=r"linked/file: got the link .*linked; expected a folder of the corpus\."
    ):
        read("linked/file")
    read("file")


@pytest.mark.parametrize(
    ("make", "said"), [(Path.mkdir, "is a directory"), (os.mkfifo, "no regular file")]
)
def test_non_file_is_refused(tmp_path, make, said):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=rf"x: got {said}; expected a file of the corpus"):
        list(corpora.read_lines(tmp_path, "x"))


@pytest.mark.parametrize(
    "labels",
    [
        ["", "x"],
        [" x", "y"],
        ["a\tb", "y"],
        ["a\nb", "y"],
        ["\x1b[31m", "y"],
        ["Yes", "yes"],
        ["\u00e9", "e\u0301"],
        ["ﬁ", "fi"],
    ],
)
def test_ambiguous_or_unprintable_labels_are_refused(labels):
    blocks = [
        (labelled_lines, {"files": {"all": {label: [f"f{i}"] for i, label in enumerate(labels)}}}),
        (
            labelled_archive,
            {
                "archive": "a",
                "folders": {"all": {label: [f"f{i}"] for i, label in enumerate(labels)}},
            },
        ),
    ]
    for module, block in blocks:
        with pytest.raises(
            UserError, match=r"^read\.(files|folders)\.all: got .*; expected labels "
        ):
            config.load(module.Config, block, "read")


def test_labels_with_slashes_and_spaces_in_them_are_labels():
    config.load(
        labelled_lines.Config, {"files": {"all": {"Sci/Tech": ["a"], "very good": ["b"]}}}, "read"
    )


def test_a_file_under_two_labels_is_refused():
    with pytest.raises(
        UserError, match=r"^read\.files\.all: got a twice; expected each file once, under one label"
    ):
        config.load(
            labelled_lines.Config, {"files": {"all": {"x": ["a"], "y": ["b", "a"]}}}, "read"
        )
