"""Benchmarks of word vectors, from the corpus's files to the report: against naive recounts, and as
DVC runs the stages."""

import json
import shutil
from pathlib import Path
from typing import Any

import default_params
import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import synthetic_runs
import yaml
from numpy.typing import NDArray
from scipy import stats

from pipeline.core import tables
from pipeline.core.errors import UserError, exit_with
from pipeline.predictions import word_vectors as predictions
from pipeline.report import vectors as picture
from pipeline.scoring import vectors
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import word_vectors as scores

ROOT = Path(__file__).resolve().parents[2]


def random_vectors(count: int, dimension: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, dimension))


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


# Scores


@pytest.mark.parametrize("seed", range(5))
def test_purity_matches_a_word_by_word_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vector_VD = random_vectors(60, 4, seed)
    word_N = rng.permutation(60)[:45]
    # from a few words to more than the ten neighbours asked for
    class_N = np.minimum(rng.integers(0, 9, 45) // 2, 3)
    found, chance = vectors.neighbour_purity(vectors.unit_length(vector_VD), word_N, class_N)
    where = dict(zip(word_N.tolist(), class_N.tolist(), strict=True))
    for i, word in enumerate(word_N.tolist()):
        others = sum(one == where[word] for one in where.values()) - 1
        ordered = sorted(
            set(range(60)) - {word}, key=lambda other: -cosine(vector_VD[word], vector_VD[other])
        )
        near = ordered[: min(others, 10)]
        assert found[i] == pytest.approx(
            sum(where.get(one) == where[word] for one in near) / len(near)
        )
        assert chance[i] == pytest.approx(others / 59)


def test_words_of_a_class_at_one_place_are_pure_and_a_lone_word_is_not() -> None:
    vector_VD = np.repeat(np.eye(4), 3, axis=0)[:10]
    found, _ = vectors.neighbour_purity(
        vectors.unit_length(vector_VD), np.arange(10), np.repeat(np.arange(4), 3)[:10]
    )
    assert found.tolist() == [1.0] * 9 + [0.0]


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    rank_x, rank_y = vectors.ranks(x), vectors.ranks(y)
    sums = np.array(
        [[len(x), rank_x.sum(), rank_y.sum(), rank_x @ rank_x, rank_y @ rank_y, rank_x @ rank_y]]
    )
    return float(vectors.correlation(sums)[0])


def test_ranks_share_ties_by_a_recount() -> None:
    value = np.array([3.0, 1.0, 3.0, 2.0, 3.0, 1.0])
    below = [(value < one).sum() + ((value == one).sum() + 1) / 2 for one in value]
    assert vectors.ranks(value).tolist() == below


@pytest.mark.parametrize("seed", range(5))
def test_spearmans_correlation_is_scipys_ties_and_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=50).round(1), rng.integers(0, 10, 50).astype(float)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert spearman(x, np.ones(50)) == 0.0


def test_analogies_are_answered_by_the_nearest_word_that_is_not_in_the_question() -> None:
    vector_VD = random_vectors(40, 3, 1)
    unit_VD = vectors.unit_length(vector_VD)
    questions = np.random.default_rng(2).integers(0, 40, (60, 3))
    for (a, b, c), found in zip(
        questions.tolist(), vectors.solve_analogies(unit_VD, questions).tolist(), strict=True
    ):
        target = unit_VD[b] - unit_VD[a] + unit_VD[c]
        assert found == max(
            set(range(40)) - {a, b, c}, key=lambda word: cosine(unit_VD[word], target)
        )


# Judges out of files


BENCHMARKS: dict[str, Any] = {
    "similarity": [
        {
            "name": "wordsim353",
            "file": "combined.csv",
            "first": "Word 1",
            "second": "Word 2",
            "score": "Human (mean)",
        },
        {
            "name": "simlex999",
            "file": "SimLex-999.txt",
            "first": "word1",
            "second": "word2",
            "score": "SimLex999",
        },
    ],
    "analogies": "questions-words.txt",
}
CORPUS = {
    "format": "text_lines",
    "source": {},
    "read": {
        "files": {name: [f"{name}.txt"] for name in ("train", "valid", "test")},
        "benchmarks": BENCHMARKS,
    },
    "limit": None,
    "split": "official",
    "text": {"level": "space", "lowercase": True, "letters_only": False, "max_tokens": None},
    "vocab": {"corpus": "c", "size": None, "min_count": 1, "share": True},
    "samples": [],
}


def lay(raw: Path) -> None:
    raw.mkdir(parents=True)
    for name in ("train", "valid", "test"):
        (raw / f"{name}.txt").write_text("paris rome france italy\ntiger cat king\n")
    pairs = b"tiger,cat,7.35\r\nKing,cabbage,0.23\r\nparis,rome,5\r\n"
    (raw / "combined.csv").write_bytes(b"Word 1,Word 2,Human (mean)\r\n" + pairs)
    (raw / "SimLex-999.txt").write_bytes(b"word1\tword2\tPOS\tSimLex999\r\nking\tcat\tN\t1.58\r\n")
    lines = ": capital-common-countries\nParis France Rome Italy\n: family\nking queen man woman\n"
    (raw / "questions-words.txt").write_text(lines)


def test_benchmarks_are_written_in_their_order_and_in_the_texts_case(tmp_path: Path) -> None:
    lay(tmp_path / "data/raw/c")
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"compute": stage_runs.HERE, "corpora": {"c": CORPUS}})
    )
    stage_runs.run(tmp_path, "tokenize", "c")
    folder = tmp_path / "data/tokens/c/benchmarks"
    names = ["0_wordsim353.parquet", "1_simlex999.parquet", "2_analogies.parquet"]
    assert sorted(file.name for file in folder.iterdir()) == names
    first = tables.read(folder / names[0], tables.BENCHMARK_SIMILARITY)
    assert [tuple(row.values()) for row in first.to_pylist()] == [
        ("tiger", "cat", 7.35),
        ("king", "cabbage", 0.23),
        ("paris", "rome", 5.0),
    ]
    assert tables.read(folder / names[1], tables.BENCHMARK_SIMILARITY)["score"].to_pylist() == [
        1.58
    ]
    questions = tables.read(folder / names[2], tables.BENCHMARK_ANALOGIES).to_pylist()
    assert list(questions[0].values()) == [
        "capital-common-countries",
        "paris",
        "france",
        "rome",
        "italy",
    ]
    assert questions[1]["section"] == "family"
    stage_runs.run(tmp_path, "vocab", "c")
    stage_runs.run(tmp_path, "encode", "c")  # benchmarks are no split
    assert {file.stem for file in (tmp_path / "data/encoded/c").glob("*.parquet")} == {
        "train",
        "valid",
        "test",
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "questions-words.txt",
            "one two three\n",
            "got one two three; expected four words, or a colon",
        ),
        (
            "questions-words.txt",
            ": family\n: capitals\n",
            "got an empty benchmark; expected at least one line of four",
        ),
        ("questions-words.txt", "", "got an empty file; expected at least one line"),
        (
            "combined.csv",
            "Word 1,Word 2,Human (mean)\nking,cat,high\n",
            "got king,cat,high; expected 3 columns, the one ",
        ),
        (
            "combined.csv",
            "Word 1,Word 2,Human (mean)\nking,cat,nan\n",
            "got king,cat,nan; expected 3 columns, the one ",
        ),
        (
            "combined.csv",
            "Word 1,Word 2,Human (mean)\nking,cat\n",
            "got king,cat; expected 3 columns, the one called ",
        ),
        (
            "combined.csv",
            "Word 1,Word 2,Human (mean)\nking\rqueen,cat,1\n",
            "expected 3 columns, the one called 'Human (mean)'",
        ),
        (
            "combined.csv",
            "Word 1,Word 2,Human (mean)\n",
            "got an empty benchmark; expected at least one pair of words",
        ),
        (
            "combined.csv",
            "Word 1,Word 2\nking,cat\n",
            "got the columns Word 1, Word 2; expected a column 'Human (mean)'",
        ),
    ],
)
def test_a_benchmark_file_that_is_none_is_refused_by_its_line_and_nothing_is_left(
    name: str, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path / "data/raw/c")
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"compute": stage_runs.HERE, "corpora": {"c": CORPUS}})
    )
    (tmp_path / "data/raw/c" / name).write_bytes(text.encode())
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: stage_runs.run(tmp_path, "tokenize", "c"))
    line = capsys.readouterr().err
    assert end.value.code == 2
    assert line.startswith(f"seqline: data/raw/c/{name}: got ")
    assert said in line
    assert line.count("\n") == 1
    assert [path.name for path in (tmp_path / "data/tokens").iterdir()] == [".c.lock"]
    assert not (tmp_path / "reports/corpora/c.json").exists()


def vector_table(tokens: list[str], seed: int = 0) -> pa.Table:
    numbers = np.random.default_rng(seed).normal(size=(len(tokens), 3)).astype(np.float32)
    ids = range(4, 4 + len(tokens))
    return pa.table(
        [tokens, ids, range(len(tokens), 0, -1), numbers.tolist()], schema=tables.VECTORS
    )


def test_only_pairs_and_questions_of_known_words_count(tmp_path: Path) -> None:
    lay(tmp_path / "data/raw/c")
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"compute": stage_runs.HERE, "corpora": {"c": CORPUS}})
    )
    stage_runs.run(tmp_path, "tokenize", "c")
    table = vector_table(["paris", "rome", "france", "italy", "tiger", "cat", "king"])
    tables.write(tmp_path / "vectors.parquet", table)
    rows = scores.rows(synthetic_runs.inputs(tmp_path, tmp_path / "data/tokens/c"), "test")
    assert [(row["benchmark"], row["item"]) for row in rows.to_pylist()] == [
        ("wordsim353", "tiger cat"),
        ("wordsim353", "paris rome"),
        ("simlex999", "king cat"),
        ("analogies", "paris france rome italy"),
    ]
    found = scores.summary(rows, Bootstrap(samples=50, confidence=0.95, seed=1), {})
    vector = dict(
        zip(table["token"].to_pylist(), np.array(table["vector"].to_pylist()), strict=True)
    )
    agree = (
        cosine(vector["tiger"], vector["cat"]) > cosine(vector["paris"], vector["rome"])
    ) * 2 - 1
    assert found["agreement"] == found["wordsim353"]
    assert found["wordsim353"]["score"] == pytest.approx(agree)
    assert found["wordsim353"]["items"] == 2
    assert set(found["analogies"]["sections"]) == {"capital-common-countries"}
    assert (
        scores.rows(synthetic_runs.inputs(tmp_path, tmp_path / "data/tokens/c"), "valid").num_rows
        == 0
    )


def test_a_table_without_vectors_is_refused(tmp_path: Path) -> None:
    lay(tmp_path / "data/raw/c")
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"compute": stage_runs.HERE, "corpora": {"c": CORPUS}})
    )
    stage_runs.run(tmp_path, "tokenize", "c")
    tables.write(tmp_path / "vectors.parquet", tables.VECTORS.empty_table())
    with pytest.raises(
        UserError, match=r"vectors\.parquet: got no vectors; expected one for each word"
    ):
        scores.rows(synthetic_runs.inputs(tmp_path, tmp_path / "data/tokens/c"), "test")


def test_a_corpus_without_a_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no benchmark"):
        scores.rows(synthetic_runs.inputs(tmp_path, tmp_path), "test")


# The vectors' own files


def as_the_authors_read(text: str) -> tuple[list[str], NDArray[np.float32]]:
    """As word2vec's own distance.c takes a text file apart: a count and a size, then words and
    numbers between blanks."""
    fields = iter(text.split())
    count, size = int(next(fields)), int(next(fields))
    tokens, rows = [], []
    for _ in range(count):
        tokens.append(next(fields))
        rows.append([float(next(fields)) for _ in range(size)])
    assert next(fields, None) is None
    return tokens, np.array(rows, dtype=np.float32)


def test_vectors_come_back_from_the_text_format_to_the_bit() -> None:
    table = vector_table(["the", "a", " ", "naïve", ",", "-5"])
    extreme = np.array([[1e-8, -1e30, 0.1], [3.4e38, 1e-45, -0.0]], dtype=np.float32)
    vectors_of = [*extreme.tolist(), *table["vector"].to_pylist()[2:]]
    table = table.set_column(3, table.schema.field(3), pa.array(vectors_of, pa.list_(pa.float32())))
    tokens, numbers = as_the_authors_read(predictions.text_format(table))
    assert tokens == ["the", "a", "▁", "naïve", ",", "-5"]
    assert numbers.tobytes() == np.array(vectors_of, dtype=np.float32).tobytes()


def test_the_plane_is_the_one_that_keeps_most_of_the_variance() -> None:
    points = random_vectors(50, 6, 3) * np.array([5, 0.1, 0.2, 3, 0.3, 0.4])
    flat = picture.principal_components(points)
    assert flat.var(0).sum() == pytest.approx(
        np.linalg.eigvalsh(np.cov(points.T, bias=True))[-2:].sum()
    )
    assert np.allclose(picture.principal_components(points + 7), flat)
    assert np.array_equal(picture.principal_components(points[:, :1])[:, 1], np.zeros(50))


# The stages


@pytest.fixture(scope="module")
def stories_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs of the built-in stories, on few sentences, through every stage."""
    root = tmp_path_factory.mktemp("stories")
    content = default_params.load()
    story = content["corpora"]["toy_story"]
    story["source"]["builtin"]["sizes"] = {"train": 1500, "valid": 100, "test": 100}
    runs = {name: content["runs"][name] for name in ("skip_gram", "cbow")}
    evaluation = content["evaluation"] | {"bootstrap": 100}
    params = {
        "compute": content["compute"],
        "evaluation": evaluation,
        "corpora": {"toy_story": story},
        "runs": runs,
    }
    default_params.write(root, params)
    stage_runs.run(root, "scratch")
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, "toy_story")
    for name in runs:
        for stage in ("train", "predict", "evaluate"):
            stage_runs.run(root, stage, name)
    stage_runs.run(root, "report")
    return root


@pytest.mark.parametrize("name", ["skip_gram", "cbow"])
def test_the_stories_words_have_purer_neighbours_than_chance_gives(
    stories_project: Path, name: str
) -> None:
    found = json.loads((stories_project / f"reports/metrics/{name}.json").read_text())["test"]
    assert found["agreement"] == found["classes"]
    assert found["classes"]["low"] > 3 * found["classes"]["chance"]
    assert found["classes"]["items"] > 250
    known = tables.read(stories_project / "data/vocab/toy_story/text.parquet", tables.VOCAB)
    made = tables.read(stories_project / f"data/predictions/{name}/vectors.parquet", tables.VECTORS)
    assert made["token"].to_pylist() == known["token"].to_pylist()[4:]
    tokens, numbers = as_the_authors_read(
        (stories_project / f"data/predictions/{name}/vectors.txt").read_text()
    )
    assert tokens == made["token"].to_pylist()
    assert np.array_equal(numbers, np.array(made["vector"].to_pylist(), dtype=np.float32))


def test_samples_show_neighbours_of_the_rarest_words(stories_project: Path) -> None:
    made = tables.read(stories_project / "data/predictions/cbow/vectors.parquet", tables.VECTORS)
    vector = dict(zip(made["token"].to_pylist(), np.array(made["vector"].to_pylist()), strict=True))
    for row in tables.read(
        stories_project / "data/predictions/cbow/samples.parquet", tables.SAMPLES
    ).to_pylist():
        shown = dict(part.split(": ") for part in row["text"].split("; "))
        assert 1 <= len(shown) <= 3
        for word, others in shown.items():
            assert word in row["prompt"].split()
            near = sorted(
                set(vector) - {word}, key=lambda other: -cosine(vector[word], vector[other])
            )[:5]
            assert others.split(", ") == near


def test_the_report_ranks_shows_and_draws_vectors_the_same_way_twice(stories_project: Path) -> None:
    def made() -> dict[str, bytes]:
        files = [
            path
            for path in (stories_project / "reports").rglob("*")
            if path.is_file() and path.suffix != ".lock"
        ]
        return {str(path.relative_to(stories_project)): path.read_bytes() for path in files}

    before = made()
    assert {"reports/figures/skip_gram/vectors.png", "reports/figures/cbow/vectors.png"} <= set(
        before
    )
    text = before["reports/comparison.md"].decode()
    assert "## Word vectors on toy_story" in text
    assert "neighbours of same class" in text
    stage_runs.run(stories_project, "report")
    assert made() == before


def test_vectors_have_no_score_and_no_section_without_test(
    stories_project: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(stories_project, tmp_path / "project"))
    looks = (root / "reports/test_looks.csv").read_bytes()
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("test: true", "test: false"), encoding="utf-8")
    for name in ("skip_gram", "cbow"):
        for stage in ("predict", "evaluate"):
            for path in stage_runs.outs(root, stage, name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            stage_runs.run(root, stage, name)
        metrics = json.loads((root / f"reports/metrics/{name}.json").read_text())
        assert metrics["valid"] == {}
        assert "test" not in metrics
    stage_runs.run(root, "report")
    text = (root / "reports/comparison.md").read_text(encoding="utf-8")
    assert (
        "The task `word_vectors` on toy_story is left out, because it has no validation score"
        in text
    )
    assert "## Word vectors" not in text
    assert (root / "reports/test_looks.csv").read_bytes() == looks


def test_vectors_of_another_vocabulary_are_refused(stories_project: Path, capsys: Any) -> None:
    path = stories_project / "data/vocab/toy_story/vocab.json"
    whole = path.read_bytes()
    facts = json.loads(whole)
    path.write_text(json.dumps(facts | {"sizes": {"text": 20}}))
    with pytest.raises(SystemExit):
        exit_with(lambda: stage_runs.run(stories_project, "predict", "cbow"))
    assert "which the model was trained with" in capsys.readouterr().err
    path.write_bytes(whole)
