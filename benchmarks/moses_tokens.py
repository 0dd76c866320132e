"""BLEU on Moses' tokens, lowercased, as in papers on multi30k, next to sacreBLEU's own tokens.

    python -m benchmarks.moses_tokens RUN --language de [--split test]

The run is a translator of params.yaml with a model and predictions. Hypotheses and references are
lowercased, with Moses' normalization of punctuation and Moses' tokens (Koehn et al. 2007, by
sacremoses). sacreBLEU scores these tokens as they are. Prints both BLEUs, and the numbers of tokens
of hypotheses and references: a paper's BLEU is comparable only if its numbers agree."""

import argparse
from pathlib import Path

from sacrebleu.metrics import BLEU
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from benchmarks.ensemble import normalize, read_hypotheses, references, tokens_folder
from pipeline.core import params
from pipeline.core.errors import exit_with
from pipeline.scoring.tasks import bleu_tokenizer


def moses_tokenize(texts: list[str], language: str) -> list[str]:
    """Each text as its tokens, with spaces between them."""
    normalizer = MosesPunctNormalizer(language)
    tokenizer = MosesTokenizer(language)
    return [
        tokenizer.tokenize(normalizer.normalize(text).lower(), return_str=True, escape=False)
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

    [hypotheses] = read_hypotheses(a.root, [a.run], a.split).values()
    hypotheses = normalize(a.root, a.run, hypotheses)
    expected = normalize(a.root, a.run, references(a.root, a.run, a.split))
    file = a.root / "params.yaml"
    tokenizer, _ = bleu_tokenizer(
        file, params.run(file, a.run).corpus, tokens_folder(a.root, a.run)
    )
    for name, tokenize, texts in (
        (
            "Moses' tokens",
            "none",
            [moses_tokenize(lines, a.language) for lines in (hypotheses, expected)],
        ),
        (f"sacreBLEU's tokens, {tokenizer}", tokenizer, [hypotheses, expected]),
    ):
        bleu = BLEU(lowercase=True, tokenize=tokenize, force=True).corpus_score(
            texts[0], [texts[1]]
        )
        print(
            f"{name}: BLEU {bleu.score:.2f}, {bleu.sys_len:,} tokens for the references' "
            f"{bleu.ref_len:,}"
        )


if __name__ == "__main__":
    exit_with(main)
