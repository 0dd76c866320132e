"""Commands that answer a user's texts, on small models trained through the stages as DVC runs
them."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trying_project
from safetensors.torch import load_file

from pipeline.cli import unknown_words
from pipeline.cli.input_text import Line
from pipeline.core import tables
from pipeline.scoring import vectors

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = "the children see the old house ."
GAP = "the whales near the harbour ___ the anchor ."


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose runs are trained; the translators are evaluated too."""
    root = tmp_path_factory.mktemp("trying")
    trying_project.train(root)
    return root


@pytest.fixture
def ask(trained: Path, seqline, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`seqline` in the project; `stdin` is what it reads there."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*words: str, stdin: str = "") -> Any:
        content = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        monkeypatch.setattr("sys.stdin", content)
        return seqline(trained, *words)

    return run


def words_of(trained: Path, corpus: str, side: str) -> list[str]:
    """The vocabulary without special tokens."""
    table = tables.read(trained / f"data/vocab/{corpus}/{side}.parquet", tables.VOCAB)
    return [token for token in table["token"].to_pylist() if not token.startswith("<")]


def hint(trained: Path, corpus: str, side: str) -> str:
    """The line about a corpus of few words, whose sample has a word that is not among them."""
    return f"seqline: {corpus} has only {len(words_of(trained, corpus, side))} words\n"


# --- texts: case and unknown words


def test_capital_letters_change_nothing_on_a_lowercase_corpus(ask, trained: Path) -> None:
    known = words_of(trained, "toy_en_fr", "source")
    text = " ".join(sorted(known)[:5])
    for command in (["translate", "--run", "seq2seq"], ["generate", "--run", "rnn"]):
        results = {ask(*command, form) for form in (text, text.upper(), text.title())}
        assert len({(status, out) for status, out, _ in results}) == 1
    assert {ask("translate", "--run", "seq2seq", form).err for form in (text, text.upper())} == {""}


def test_words_that_the_run_does_not_know_are_named_once(ask, trained: Path) -> None:
    result = ask("translate", "--run", "seq2seq", "The zyzzy qwert Zyzzy .")
    assert result.status == 0
    assert result.err == "seqline: seq2seq does not know: zyzzy, qwert\n" + hint(
        trained, "toy_en_fr", "source"
    )


@pytest.mark.parametrize(
    ("command", "run", "text"),
    [
        ("generate", "rnn", "once upon zyzzy"),
        ("classify", "mlp", "the zyzzy ."),
        ("fill", "bidirectional", "the zyzzy ___ ."),
        ("fill", "bert", "the zyzzy ___ ."),
    ],
)
def test_every_command_warns_about_unknown_words(command: str, run: str, text: str, ask) -> None:
    result = ask(command, "--run", run, text)
    lines = result.err.splitlines()
    assert (result.status, lines[0]) == (0, f"seqline: {run} does not know: zyzzy")
    assert re.match(r"seqline: toy_\w+ has only \d+ words", lines[1])
    assert len(lines) == 2


def test_a_sample_without_unknown_words_is_offered_to_try(
    ask, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = " ".join(words_of(trained, "toy_en_fr", "source")[:3])
    monkeypatch.setattr(unknown_words, "sample_text", lambda *_: sample)
    result = ask("translate", "--run", "seq2seq", "qwert")
    assert result.err.endswith(f' words; a text for it: "{sample}"\n')


def test_a_large_corpus_has_no_hint(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_words, "_SMALL", 2)
    result = ask("translate", "--run", "seq2seq", "qwert")
    assert result.err == "seqline: seq2seq does not know: qwert\n"


def test_a_picture_of_the_attention_comes_with_the_same_warning(
    tmp_path: Path, ask, trained: Path
) -> None:
    file = tmp_path / "attention.png"
    result = ask("translate", "the zyzzy .", "--run", "attention", "--heatmap", str(file))
    assert result.status == 0
    assert result.err == (
        f"seqline: wrote {file}\nseqline: attention does not know: zyzzy\n"
        + hint(trained, "toy_en_fr", "source")
    )
    assert file.read_bytes().startswith(b"\x89PNG")


def test_unknown_words_of_many_lines_are_one_warning(ask, trained: Path) -> None:
    lines = ["the children .", "zyzzy", "", "qwert the zyzzy", "zyzzy"]
    result = ask("translate", "--run", "seq2seq", stdin="\n".join(lines))
    assert (result.status, result.out.count("\n")) == (0, 5)
    assert result.err == "seqline: seq2seq does not know in 3 of 5 lines: zyzzy, qwert\n" + hint(
        trained, "toy_en_fr", "source"
    )


def test_a_warning_names_ten_words_and_counts_the_others(capsys) -> None:
    unknown = unknown_words.UnknownWords("a run")
    unknown.add(Line(None, "", None), [f"w{number}\x1b" for number in range(25)])
    unknown.warn()
    err = capsys.readouterr().err
    assert err.endswith(", w9\\x1b and 15 more\n")
    assert err.count("\n") == 1


# --- many texts: files, JSON, n-best


def test_a_file_standard_input_and_an_output_file_give_the_same_lines(ask, tmp_path: Path) -> None:
    lines = f"{SENTENCE}\n\nthe zyzzy .\n"
    (tmp_path / "in").write_text(lines)
    piped = ask("translate", "--run", "seq2seq", stdin=lines)
    filed = ask("translate", "--run", "seq2seq", "--file", str(tmp_path / "in"))
    assert piped == filed
    assert piped.out.count("\n") == 3
    assert piped.out.split("\n")[1] == ""
    out = ["-o", str(tmp_path / "out")]
    written = ask("translate", "--run", "seq2seq", *out, stdin=lines)
    assert (written.status, written.out) == (0, "")
    assert (tmp_path / "out").read_text() == piped.out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_bad_lines_leave_the_others_in_the_output_file(ask, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"the ___ .\nno gap\ncaf\xe9 ___\n")
    where = ["--file", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    result = ask("fill", "--run", "bidirectional", *where)
    line = f"seqline: {tmp_path}/in, line 2: text: got no gap; expected a text with one blank, "
    assert (result.status, result.err.startswith(line)) == (2, True)
    assert "Also failed: line 3." in result.err
    assert [bool(line) for line in (tmp_path / "out").read_text().split("\n")] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--file", "no_such"], "no_such: got No such file or directory; expected a file of texts"),
        (["--file", "presets"], "presets: got Is a directory; expected a file of texts"),
        (["a", "--file", "params.yaml"], "--file: got params.yaml, and a text; expected one of"),
        (["a", "-o", "presets"], "--output: got presets; expected the name of a file in a folder"),
        (["a", "-o", "no/such"], "--output: got no/such; expected the name of a file in a folder"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(words, line: str, ask) -> None:
    result = ask("translate", "--run", "seq2seq", *words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(f"seqline: {line}"), result.err


def test_json_has_an_object_per_line_with_its_outputs_words_and_error(ask) -> None:
    plain = ask("translate", "--run", "seq2seq", stdin=f"{SENTENCE}\n\nthe zyzzy .\n")
    result = ask("translate", "--run", "seq2seq", "--json", stdin=f"{SENTENCE}\n\nthe zyzzy .\n")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["line"] for record in records] == [1, 2, 3]
    assert [record["input"] for record in records] == [SENTENCE, "", "the zyzzy ."]
    assert [record["outputs"][0]["text"] for record in records] == plain.out.split("\n")[:-1]
    assert [record["unknown_words"] for record in records] == [[], [], ["zyzzy"]]
    refused = json.loads(ask("fill", "--run", "bert", "--json", "no gap").out)
    assert (refused["outputs"], refused["input"]) == ([], None)
    assert refused["error"].startswith("text: got no gap; expected a text with blanks, written ___")


def test_n_best_is_that_of_moses(ask) -> None:
    lines = f"{SENTENCE}\n\nthe house .\n"
    best = ask("translate", "--run", "seq2seq", stdin=lines).out.splitlines()
    result = ask("translate", "--run", "seq2seq", "--n-best", "3", stdin=lines)
    rows = [line.split(" ||| ") for line in result.out.splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "0", "1", "2", "2", "2"]
    assert [rows[number][1] for number in (0, 3, 4)] == best
    assert all(re.fullmatch(r"log_prob= -?\d+\.\d{4}", row[2]) for row in rows)
    totals = [float(row[3]) for row in rows]
    assert totals[:3] == sorted(totals[:3], reverse=True)
    as_json = ask("translate", "--run", "seq2seq", "--n-best", "3", "--json", SENTENCE)
    outputs = json.loads(as_json.out)["outputs"]
    assert [output["text"] for output in outputs] == [row[1] for row in rows[:3]]
    assert [f"{output['score']:.4f}" for output in outputs] == [row[3] for row in rows[:3]]


def test_piped_translations_have_the_bleu_of_the_evaluate_stage(ask, trained: Path) -> None:
    raw = trained / "data/raw/toy_en_fr"
    result = ask("translate", "--run", "attention", stdin=(raw / "test.en").read_text())
    command = [sys.executable, "-m", "sacrebleu", str(raw / "test.fr"), "--score-only", "-w", "4"]
    done = subprocess.run(command, input=result.out, capture_output=True, text=True, check=True)
    metrics = json.loads((trained / "reports/metrics/attention.json").read_text())
    assert float(done.stdout) == pytest.approx(metrics["test"]["bleu"]["score"], abs=1e-3)


def test_continuations_do_not_depend_on_the_other_lines(ask) -> None:
    lines = ["once upon a time", "the whales", ""]
    together = ask("generate", "--run", "rnn", stdin="\n".join(lines) + "\n").out.splitlines()
    assert together == [ask("generate", "--run", "rnn", line).out.rstrip("\n") for line in lines]


# --- the run that answers


def test_the_best_run_on_validation_data_answers_where_none_is_named(ask, trained: Path) -> None:
    scores = {
        run: json.loads((trained / f"reports/metrics/{run}.json").read_text())["valid"]
        for run in ("seq2seq", "attention")
    }
    best = min(scores, key=lambda run: scores[run]["perplexity"]["score"])
    result = ask("translate", SENTENCE)
    assert result.out == ask("translate", "--run", best, SENTENCE).out
    assert result.err == (
        f"seqline: answers by {best}, the best of translation-toy_en_fr on validation data; there "
        "is no champion yet\n"
    )
    assert not (trained / "mlflow.db").exists(), "looking must not make the store"


def test_several_corpora_that_fit_are_listed(ask) -> None:
    result = ask("fill", GAP)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "seqline: --run: got none; expected one of bidirectional (fill_blank-toy_story), bert "
        "(masked_language_model-toy_story), as several corpora fit.\n"
    )


def test_a_project_without_trained_runs_says_what_to_do(project: Path, seqline) -> None:
    result = seqline(project, "translate", "a")
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("seqline: --run: got none; expected a trained run that `seqline ")
    assert "Run `make repro`" in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["translate", "a", "--run", "rnn"], "expected a translator"),
        (["generate", "a", "--run", "seq2seq"], "expected a language model"),
        (["classify", "a", "--run", "rnn"], "expected a classifier"),
        (["fill", "a ___", "--run", "rnn"], "expected a model that fills blanks"),
        (["neighbours", "a", "--run", "rnn"], "expected word vectors"),
        (["analogy", "a", "b", "c", "--run", "mlp"], "expected word vectors"),
    ],
)
def test_a_run_of_another_task_is_refused(words: list[str], expected: str, ask) -> None:
    result = ask(*words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert expected in result.err


# --- blanks and word vectors


@pytest.mark.parametrize("run", ["bidirectional", "bert"])
def test_a_blank_gets_the_likeliest_of_all_words(run: str, ask, trained: Path) -> None:
    result = ask("fill", "--run", run, "--n-best", "1000", "--json", GAP)
    [output] = json.loads(result.out)["outputs"]
    [blank] = output["blanks"]
    probabilities = [word["probability"] for word in blank]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert len(blank) >= len(words_of(trained, "toy_story", "text"))
    assert output["text"] == GAP.replace("___", blank[0]["word"])
    assert ask("fill", "--run", run, GAP).out == output["text"] + "\n"
    two = ask("fill", "--run", run, "--n-best", "2", GAP).out
    assert two == "{} {:.4f}, {} {:.4f}\n".format(
        *(value for word in blank[:2] for value in word.values())
    )


def test_several_blanks_are_filled_in_order(ask) -> None:
    result = ask("fill", "--run", "bert", "--n-best", "2", "the ___ sees the ___ .")
    assert [len(blank.split(", ")) for blank in result.out.split("; ")] == [2, 2]
    refused = ask("fill", "--run", "bidirectional", "the ___ sees the ___ .")
    assert (refused.status, "a text with one blank" in refused.err) == (2, True)


@pytest.fixture(scope="module")
def unit_vectors(trained: Path) -> tuple[list[str], np.ndarray]:
    """Words and their vectors of length 1, from the weights themselves."""
    weights = load_file(trained / "data/models/skip_gram/model.safetensors")
    words = words_of(trained, "toy_story", "text")
    vector_VD = weights["input.weight"][-len(words) :]
    return words, torch.nn.functional.normalize(vector_VD, dim=1).numpy()


def test_neighbours_are_the_words_of_largest_cosine(ask, unit_vectors) -> None:
    words, unit_VD = unit_vectors
    cosine_V = unit_VD @ unit_VD[words.index("she")]
    best = sorted(range(len(words)), key=lambda i: -cosine_V[i])[1:4]
    result = ask("neighbours", "She", "--run", "skip_gram", "--count", "3")
    assert result.out == ", ".join(f"{words[i]} {cosine_V[i]:.4f}" for i in best) + "\n"
    rows = json.loads(ask("neighbours", "she", "--json").out)["outputs"]
    assert [row["word"] for row in rows[:3]] == [words[i] for i in best]
    assert len(rows) == 10


def test_analogies_are_solved_as_the_benchmark_solves_them(ask, unit_vectors) -> None:
    words, unit_VD = unit_vectors
    questions = [("she", "that", "the"), ("in", "the", ".")]
    index_N3 = np.array([[words.index(word) for word in question] for question in questions])
    expected = [words[i] for i in vectors.solve_analogies(unit_VD, index_N3)]
    for question, word in zip(questions, expected, strict=True):
        assert ask("analogy", *question).out.split()[0] == word
    lines = "\n".join(" ".join(question) for question in questions)
    result = ask("analogy", "--run", "skip_gram", stdin=lines)
    assert [line.split()[0] for line in result.out.splitlines()] == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["neighbours", "thatt"], "word: got thatt; expected one word of the vocabulary. Did you"),
        (["neighbours", "the that"], "word: got the that; expected one word of the vocabulary"),
        (["analogy", "the", "that"], "analogy: got the that; expected three words"),
        (["analogy", "the", "that", "zzz"], "word: got zzz; expected one word of the vocabulary"),
    ],
)
def test_words_without_vectors_are_refused(words: list[str], line: str, ask) -> None:
    result = ask(*words, "--run", "skip_gram")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert result.err.startswith(f"seqline: {line}")


# --- what is trained


def test_runs_lists_scores_seeds_and_what_is_not_trained(ask, trained: Path) -> None:
    rows = {row["run"]: row for row in map(json.loads, ask("runs", "--json").out.splitlines())}
    assert list(rows) == list(trying_project.RUNS)
    for run in ("seq2seq", "attention"):
        metrics = json.loads((trained / f"reports/metrics/{run}.json").read_text())
        assert rows[run]["score"] == metrics["test"]["bleu"]["score"]
        assert (rows[run]["metric"], rows[run]["trained"]) == ("BLEU", True)
    assert (rows["mlp"]["score"], rows["mlp"]["trained"]) == (None, True)

    (trained / "data/models/mlp").rename(trained / "data/models/away")
    try:
        lines = ask("runs").out.splitlines()
    finally:
        (trained / "data/models/away").rename(trained / "data/models/mlp")
    best = max(("seq2seq", "attention"), key=lambda run: rows[run]["score"])
    first = lines[lines.index("translation on toy_en_fr: BLEU, test, higher is better") + 2]
    assert first.split() == [
        best,
        rows[best]["family"],
        str(rows[best]["seed"]),
        f"{rows[best]['score']:.2f}",
    ]
    assert "mlp      mlp_classifier  –      –      not trained" in lines


# --- the prompt


@pytest.mark.long
def test_a_terminal_gets_a_prompt_with_a_history(trained: Path) -> None:
    program = (
        "import sys; sys.argv = ['seqline', 'neighbours', '--run', 'skip_gram', '--count', '1']; "
        "from pipeline import cli; cli.main()"
    )

    def session(keys: list[bytes]) -> str:
        """The output of a terminal; each entry of `keys` is typed at the next prompt."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=trained,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            shown = b""
            waiting = list(keys)
            while True:
                try:
                    shown += os.read(ours, 4096)
                except OSError:  # the terminal has no more programs
                    break
                if waiting and shown.count(b"neighbours> ") > len(keys) - len(waiting):
                    os.write(ours, waiting.pop(0))
        os.close(ours)
        assert process.returncode == 0
        # Without carriage returns and the sequences of readline.
        return re.sub(r"\r|\x1b\[[?0-9;]*[a-zA-Z]", "", shown.decode())

    first = session([b"she\n", b"zyzzy\n", b"that\n", b"\x04"])
    assert "Ctrl-D ends." in first
    assert "seqline: word: got zyzzy; expected one word of the vocabulary" in first
    answers = re.findall(r"^\w+ -?[01]\.\d{4}", first, re.MULTILINE)
    assert len(answers) == 2, "a mistake does not end the session"

    # The last text of the session before comes back with the arrow key.
    second = session([b"\x1b[A\n", b"\x04"])
    assert re.findall(r"^\w+ -?[01]\.\d{4}", second, re.MULTILINE) == answers[1:]
