"""BLEU on Moses' tokens, lowercased, as papers on multi30k give it, beside sacreBLEU's own tokens.

    python -m benchmarks.moses_tokens RUN --language de [--split test]

The run is a translator of params.yaml that was trained and has predicted. Its answers and the
references are put through Moses' normalisation of punctuation, small letters and Moses' tokens
(Koehn et al. 2007, by sacremoses), and counted by sacreBLEU as they then stand. Prints both BLEUs
and how many tokens answers and references have, which a paper's figures must agree with to be of
the same kind."""

import argparse
from pathlib import Path

from sacrebleu.metrics import BLEU
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from benchmarks.ensemble import normalize, read_hypotheses, references, tokens_folder
from pipeline.core import params
from pipeline.core.errors import exit_with
from pipeline.scoring.tasks import tokenizer_of


def moses_tokenize(texts: list[str], language: str) -> list[str]:
    """Each text as its tokens, with spaces between them."""
    normal, tokenizer = MosesPunctNormalizer(language), MosesTokenizer(language)
    return [
        tokenizer.tokenize(normal.normalize(text).lower(), return_str=True, escape=False)
        for text in texts
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument(
        "--language", required=True, help="the target's, as Moses calls it: de, fr, en"
    )
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--split", default="test")
    a = parser.parse_args()
    [answers] = read_hypotheses(a.root, [a.run], a.split).values()
    answers = normalize(a.root, a.run, answers)
    expected = normalize(a.root, a.run, references(a.root, a.run, a.split))
    file = a.root / "params.yaml"
    tokenizer, _ = tokenizer_of(file, params.run(file, a.run).corpus, tokens_folder(a.root, a.run))
    for name, tokenize, sides in (
        (
            "Moses' tokens",
            "none",
            [moses_tokenize(texts, a.language) for texts in (answers, expected)],
        ),
        (f"sacreBLEU's tokens, {tokenizer}", tokenizer, [answers, expected]),
    ):
        found = BLEU(lowercase=True, tokenize=tokenize, force=True).corpus_score(
            sides[0], [sides[1]]
        )
        print(
            f"{name}: BLEU {found.score:.2f}, {found.sys_len:,} tokens for the references' "
            f"{found.ref_len:,}"
        )


if __name__ == "__main__":
    exit_with(main)
