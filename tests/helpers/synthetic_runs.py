"""A small project as the predict stage leaves it: two corpora, and runs whose quality is chosen,
for tests of the scores."""

import json
from pathlib import Path

import default_params
import numpy as np
import pyarrow as pa
import yaml

from pipeline.core import tables
from pipeline.scoring.tasks import Inputs
from pipeline.text.tokens import Text

WORDS = [
    "le",
    "la",
    "les",
    "petit",
    "chat",
    "dort",
    "noir",
    "mange",
    "ne",
    "pas",
    "souris",
    "que",
    "voit",
    "maison",
    "grande",
    "et",
    "jolie",
    "porte",
    "chien",
    "rouge",
    "bleu",
]
SAMPLES = [
    ("go .", "va !"),
    ("i lost .", "j'ai perdu ."),
    ("he's calm .", "il est calme ."),
    ("i'm home .", "je suis chez moi ."),
]
TOKENS = 1000  # what a model of perplexity PERPLEXITY[run] spends its nats on


def project(
    root: Path,
    translators: dict[str, float],
    models: dict[str, float],
    rows: int = 120,
    seed: int = 0,
) -> Path:
    """A folder of params.yaml and data; `translators` gives each run's share of wrong words,
    `models` its nats a token."""
    root.mkdir(parents=True, exist_ok=True)
    runs = {name: _block("translation", "pairs", name) for name in translators}
    runs |= {name: _block("language_model", "story", name) for name in models}
    corpora = {name: corpus() for name in ("pairs", "story")}
    evaluation = {"bootstrap": 200, "confidence": 0.95, "seed": 1, "test": True}
    default_params.write(root, {"evaluation": evaluation, "corpora": corpora, "runs": runs})
    rng = np.random.default_rng(seed)
    sentences = {split: _sentences(rng, count, long) for split, count, long in _splits(rows)}
    counts(root, "pairs", sentences)
    references(root / "data/tokens/pairs", sentences)
    ids(root / "data/encoded/pairs", sentences, tables.ENCODED_PAIR)
    for name, wrong in translators.items():
        translations(root / "data/predictions" / name, sentences, wrong, rng)
        model(root / "data/models" / name, 3.0 + wrong)
    texts = {split: found for split, found in sentences.items() if split != "test_long"}
    counts(root, "story", texts)
    stories(root / "data/tokens/story", texts)
    ids(root / "data/encoded/story", texts, tables.ENCODED_TEXT)
    for name, nats in models.items():
        likelihoods(root / "data/predictions" / name, texts, nats, rng)
        samples(
            root / "data/predictions" / name,
            [("once upon a time", None, "once upon a time the cat sleeps .")],
        )
        model(root / "data/models" / name, nats)
    return root


def corpus(level: str = "word", lowercase: bool = False) -> dict[str, object]:
    """A corpus's block of params.yaml, of which the stages from evaluate on need `text`,
    `bleu_tokenizer` and `samples` alone."""
    text = {"level": level, "lowercase": lowercase, "letters_only": False, "max_tokens": None}
    unused = {"source": {}, "read": {}, "limit": None, "split": "official", "vocab": {}}
    return {"format": "made", **unused, "text": text, "bleu_tokenizer": "auto", "samples": []}


def inputs(predictions: Path, tokens: Path) -> Inputs:
    """Inputs of a scoring without ids: no word is unknown."""
    text = Text(level="word", lowercase=False, letters_only=False, max_tokens=None)
    return Inputs(predictions=predictions, tokens=tokens, encoded=None, text=text)


def set_lowercase(root: Path, corpus: str, lowercase: bool) -> None:
    """Say in params.yaml whether the corpus's text is lowercased; the data stay as they are."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["corpora"][corpus]["text"]["lowercase"] = lowercase
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def _splits(rows: int) -> list[tuple[str, int, int]]:
    return [("train", 5, 12), ("valid", 20, 12), ("test", rows, 14), ("test_long", rows // 3, 30)]


def _block(task: str, corpus: str, name: str) -> dict[str, object]:
    """The run `lstm-2` is the setting `lstm` with seed 2."""
    setting, _, seed = name.partition("-")
    model = {"hidden": 64, "layers": 1, "dropout": 0.1, "cell": "gru"}
    return {
        "setting": setting,
        "family": setting,
        "task": task,
        "corpus": corpus,
        "seed": int(seed or 1),
        "init_from": "scratch",
        "model": model,
        "objective": {"batch_size": 32},
        "optim": {"name": "adam", "learning_rate": 0.002 if name.startswith("t") else 0.004},
        "training": {"max_epochs": 8},
        "search": {"method": "greedy"},
    }


def _sentences(rng: np.random.Generator, count: int, longest: int) -> list[list[str]]:
    lengths = rng.integers(max(2, longest // 2 if longest > 20 else 2), longest + 1, count)
    return [[*rng.choice(WORDS, length), "."] for length in lengths]


def counts(root: Path, corpus: str, sentences: dict[str, list[list[str]]]) -> None:
    """What the tokenize stage counts, without all but rows and tokens."""
    splits = {
        split: {"rows": len(rows), "tokens": sum(map(len, rows)), "rejected": {}}
        for split, rows in sentences.items()
    }
    path = root / f"reports/corpora/{corpus}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"blank_lines": 0, "splits": splits}))


def references(folder: Path, sentences: dict[str, list[list[str]]]) -> None:
    folder.mkdir(parents=True)
    for split, found in sentences.items():
        texts = [" ".join(words).capitalize() for words in found]
        columns = [range(len(found)), texts, texts, found, found, [len(text) for text in texts]]
        tables.write(folder / f"{split}.parquet", _table(columns, tables.TOKENS_PAIR))
    tables.write(folder / "rejects.parquet", _table([[], [], []], tables.REJECTS))
    (folder / "limits.json").write_text(
        json.dumps({"test": {"bleu": 100.0}, "test_long": {"bleu": 100.0}})
    )


def stories(folder: Path, sentences: dict[str, list[list[str]]]) -> None:
    folder.mkdir(parents=True)
    for split, found in sentences.items():
        texts = [" ".join(words) for words in found]
        log_prob = [-2.0 * (len(words) + 1) for words in found]
        paragraph = [i // 3 for i in range(len(found))]
        columns = [
            range(len(found)),
            texts,
            found,
            [len(text) for text in texts],
            paragraph,
            log_prob,
        ]
        tables.write(folder / f"{split}.parquet", _table(columns, tables.TOKENS_TEXT))


def ids(folder: Path, sentences: dict[str, list[list[str]]], schema: pa.Schema) -> None:
    """Ids of the words by their places in WORDS, after the specials: none is unknown."""
    folder.mkdir(parents=True)
    id_of = {word: 4 + i for i, word in enumerate([*WORDS, "."])}
    for split, rows in sentences.items():
        numbers = [[id_of[word] for word in words] for words in rows]
        last = [i // 3 for i in range(len(rows))] if schema == tables.ENCODED_TEXT else numbers
        tables.write(folder / f"{split}.parquet", _table([range(len(rows)), numbers, last], schema))


def translations(
    folder: Path, sentences: dict[str, list[list[str]]], wrong: float, rng: np.random.Generator
) -> None:
    """Answers with the share `wrong` of the words drawn anew, more of them the longer the
    sentence."""
    likelihoods(folder, sentences, 0.3 + 3 * wrong, rng)
    for split, found in sentences.items():
        if split == "train":
            continue
        answers = [" ".join(_spoilt(words, wrong, rng)).capitalize() for words in found]
        hypotheses(folder / f"hypotheses_{split}.parquet", answers)
    spoilt = [
        (prompt, want, " ".join(_spoilt(want.split(), wrong, rng))) for prompt, want in SAMPLES
    ]
    samples(folder, spoilt)
    if wrong < 0.3:
        attention(folder / "attention.parquet", spoilt, rng)


def _spoilt(words: list[str], wrong: float, rng: np.random.Generator) -> list[str]:
    share = min(0.95, wrong * (0.5 + len(words) / 12))
    return [str(rng.choice(WORDS)) if rng.random() < share else word for word in words]


def hypotheses(path: Path, answers: list[str]) -> None:
    rows = np.repeat(np.arange(len(answers)), 2)
    texts = [text for answer in answers for text in (answer, answer + " bis")]
    columns = [
        rows,
        np.tile([0, 1], len(answers)),
        texts,
        -1.0 * np.arange(len(rows)),
        -1.0 * np.arange(len(rows)),
    ]
    tables.write(path, _table(columns, tables.HYPOTHESES))


def likelihoods(
    folder: Path, sentences: dict[str, list[list[str]]], nats: float, rng: np.random.Generator
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in sentences.items():
        if split != "train":
            count = np.array([len(words) + 1 for words in found])
            spent = count * nats * rng.uniform(0.8, 1.2, len(found))
            tables.write(
                folder / f"likelihood_{split}.parquet",
                _table([range(len(found)), spent, count], tables.LIKELIHOOD),
            )


def samples(folder: Path, found: list[tuple[str, str | None, str]]) -> None:
    prompts, wanted, texts = zip(*found, strict=True)
    columns = [range(len(found)), prompts, wanted, texts, [-1.0] * len(found)]
    tables.write(folder / "samples.parquet", _table(columns, tables.SAMPLES))


def attention(path: Path, found: list[tuple[str, str, str]], rng: np.random.Generator) -> None:
    """Two layers of two heads that look near the diagonal."""
    rows: list[tuple[int, str, list[str], list[str], list[float]]] = []
    for row, (prompt, _, text) in enumerate(found):
        columns, outputs = [*prompt.split(), "<eos>"], [*text.split(), "<eos>"]
        for layer in (1, 2):
            for head in (1, 2):
                where = np.arange(len(outputs))[:, None] / len(outputs) - np.arange(len(columns))[
                    None
                ] / len(columns)
                weights = np.exp(-((where * (2 + 3 * layer + head)) ** 2)) * rng.uniform(
                    0.7, 1.3, where.shape
                )
                weights /= weights.sum(1, keepdims=True)
                rows.append(
                    (
                        row,
                        f"decoder {layer} head {head}",
                        columns,
                        outputs,
                        weights.ravel().tolist(),
                    )
                )
    tables.write(path, _table(list(zip(*rows, strict=True)), tables.ATTENTION))


def model(folder: Path, nats: float, epochs: int = 8, steps: int = 60) -> None:
    """config.json and a history that falls towards `nats`."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"parameters": 123456, "best_step": epochs * steps, "digest": "0" * 64})
    )
    points: list[tuple[int, int, str, float]] = []
    for step in range(10, epochs * steps + 1, 10):
        loss = nats + 3 * float(np.exp(-step / 90))
        points += [
            (step, step // steps, "train/loss", loss),
            (step, step // steps, "learning_rate", 0.001),
        ]
        if step % steps == 0:
            points.append((step, step // steps, "valid/loss", loss + 0.1))
            points.append((step, step // steps, "valid/perplexity", float(np.exp(loss + 0.1))))
    tables.write(
        folder / "history.parquet", _table(list(zip(*points, strict=True)), tables.HISTORY)
    )


def _table(columns: list[object], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)
    ]  # type: ignore[call-overload]
    return pa.table(arrays, schema=schema)
