"""N-gram language models, the baseline of the neural ones: interpolated Kneser-Ney, modified
Kneser-Ney and Witten-Bell smoothing, for characters, words and subwords."""

from pipeline.nn import ngram_model

Config = ngram_model.Config


class Model(ngram_model.NgramModel):
    """p(next token | the order - 1 tokens before it), fitted in one pass over the training text."""
