"""Small models of every family, for tests that all families must pass."""

from typing import Any

from pipeline.conformance import Case

Blocks = dict[str, tuple[str, dict[str, Any]]]

# Translators and language models

RECURRENT = {
    "embedding": 24,
    "hidden": 32,
    "layers": 1,
    "dropout": 0.0,
    "bidirectional": True,
    "implementation": "fused",
}
TRANSFORMER = {
    "width": 32,
    "heads": 4,
    "feed_forward": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "variants": [],
    "dropout": 0.0,
    "norm": "layer",
    "learned_positions": None,
    "implementation": "fused",
}
CONVOLUTIONS = {
    "embedding": 24,
    "hidden": 32,
    "kernel": 3,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.0,
    "learned_positions": 64,
}
VARIED = {"norm_first": True, "tied": "output"}
TRANSLATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "seq2seq rnn": ("seq2seq", RECURRENT | {"cell": "rnn", "bidirectional": False, "layers": 2}),
    "seq2seq gru": ("seq2seq", RECURRENT | {"cell": "gru"}),
    "seq2seq lstm": ("seq2seq", RECURRENT | {"cell": "lstm", "layers": 2}),
    "additive attention": ("attention_seq2seq", RECURRENT | {"cell": "gru", "score": "additive"}),
    "scaled dot attention": (
        "attention_seq2seq",
        RECURRENT | {"cell": "lstm", "score": "scaled_dot", "layers": 2},
    ),
    "dot attention": (
        "attention_seq2seq",
        RECURRENT | {"cell": "gru", "score": "dot", "bidirectional": False},
    ),
    "general attention": ("attention_seq2seq", RECURRENT | {"cell": "rnn", "score": "general"}),
    "gaussian attention": ("attention_seq2seq", RECURRENT | {"cell": "gru", "score": "gaussian"}),
    "pre-norm transformer": ("transformer", TRANSFORMER | {"norm_first": True, "tied": "all"}),
    "learned positions": (
        "transformer",
        TRANSFORMER | {"norm_first": True, "tied": "all", "learned_positions": 64},
    ),
    "batch-norm transformer": (
        "transformer",
        TRANSFORMER | {"norm_first": False, "tied": "none", "norm": "batch"},
    ),
    "post-norm transformer": ("transformer", TRANSFORMER | {"norm_first": False, "tied": "none"}),
    "convolutions": ("conv_seq2seq", CONVOLUTIONS),
    "relative positions": (
        "transformer",
        TRANSFORMER | VARIED | {"variants": ["relative_positions"]},
    ),
    "rotary positions": ("transformer", TRANSFORMER | VARIED | {"variants": ["rotary_positions"]}),
    "averaged heads without scales": (
        "transformer",
        TRANSFORMER
        | VARIED
        | {"variants": ["average_heads", "unscaled_scores", "unscaled_embeddings"]},
    ),
}

RECURRENT_LM = {
    "embedding": 16,
    "hidden": 32,
    "layers": 2,
    "dropout": 0.0,
    "tied": False,
    "implementation": "fused",
}
TRANSFORMER_LM = {
    "width": 32,
    "heads": 4,
    "feed_forward": 64,
    "layers": 2,
    "context": 8,
    "dropout": 0.0,
    "norm": "layer",
}
TRANSFORMER_LM |= {
    "norm_first": True,
    "learned_positions": False,
    "tied": True,
    "implementation": "fused",
}
LANGUAGE_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("recurrent_lm", RECURRENT_LM | {"cell": "rnn"}),
    "gru one-hot": ("recurrent_lm", RECURRENT_LM | {"cell": "gru", "embedding": 0}),
    "relu rnn": ("recurrent_lm", RECURRENT_LM | {"cell": "relu_rnn"}),
    "gru with the reset gate alone": (
        "recurrent_lm",
        RECURRENT_LM | {"cell": "reset_gru", "implementation": "equations"},
    ),
    "gru with the update gate alone": (
        "recurrent_lm",
        RECURRENT_LM | {"cell": "update_gru", "implementation": "equations"},
    ),
    "lstm tied": ("recurrent_lm", RECURRENT_LM | {"cell": "lstm", "embedding": 32, "tied": True}),
    "transformer": ("transformer_lm", TRANSFORMER_LM),
    "transformer, learned positions": (
        "transformer_lm",
        TRANSFORMER_LM | {"learned_positions": True, "norm_first": False},
    ),
}


# Classifiers

BIRNN = {
    "cell": "gru",
    "embedding": 16,
    "hidden": 16,
    "layers": 1,
    "dropout": 0.0,
    "implementation": "fused",
}
ENCODER = {
    "width": 16, "heads": 2, "feed_forward": 32, "layers": 1, "dropout": 0.0,
    "norm_first": True, "learned_positions": None, "implementation": "fused",
}  # fmt: skip
CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp_classifier", {"embedding": 16, "hidden": 16, "layers": 2, "dropout": 0.0}),
    "cnn": (
        "text_cnn",
        {"embedding": 16, "widths": [3, 4, 5], "filters": 8, "dropout": 0.0, "max_norm": None},
    ),
    "birnn": ("birnn_classifier", BIRNN | {"cell": "rnn", "layers": 2}),
    "bigru": ("birnn_classifier", BIRNN),
    "bilstm, equations": (
        "birnn_classifier",
        BIRNN | {"cell": "lstm", "implementation": "equations"},
    ),
    "transformer": ("transformer_classifier", ENCODER),
    "post-norm transformer": (
        "transformer_classifier",
        ENCODER | {"norm_first": False, "learned_positions": 64, "layers": 2},
    ),
}


SIDES = {"image_height": 8, "image_width": 8}
VIT = SIDES | {
    "patch": 4, "width": 16, "heads": 2, "feed_forward": 32, "layers": 1, "dropout": 0.0,
    "pooling": "cls", "implementation": "fused",
}  # fmt: skip
SWIN = SIDES | {
    "patch": 2, "width": 16, "layers": [2, 1], "heads": [2, 2], "window": 2, "expansion": 2,
    "dropout": 0.0,
}  # fmt: skip
CNN = SIDES | {"filters": [8, 8], "kernel": 3, "hidden": 16, "dropout": 0.0}
MLP = SIDES | {"hidden": 32, "layers": 2, "dropout": 0.0}
NEIGHBOURS = SIDES | {"neighbours": [1, 5], "smoothing": 1.0}
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit, cls": ("vision_transformer", VIT),
    "vit, mean": ("vision_transformer", VIT | {"pooling": "mean"}),
    "swin": ("swin_transformer", SWIN),
    "cnn": ("image_cnn", CNN),
    "mlp": ("image_mlp", MLP),
}


# All families, with the tasks

NGRAMS = {
    "order": 3,
    "smoothing": "kneser_ney",
    "discounts": "estimated",
    "across_rows": True,
    "adaptive": False,
}
BAYES = {"ngrams": 2, "counts": "all", "alpha": 0.5, "calibrate": False}
NBSVM = BAYES | {"counts": "once", "classifier": "svm", "C": 1.0, "beta": 0.25, "refit": False}
BERT = {
    "width": 32,
    "heads": 4,
    "feed_forward": 48,
    "layers": 2,
    "dropout": 0.0,
    "learned_positions": 32,
    "implementation": "fused",
}
BIDIRECTIONAL = {
    "embedding": 12,
    "hidden": 24,
    "layers": 2,
    "dropout": 0.0,
    "implementation": "fused",
}


def _cases(task: str, blocks: Blocks, kind: str = "") -> dict[str, Case]:
    return {
        f"{name}{kind}": Case(family=family, task=task, block=block)
        for name, (family, block) in blocks.items()
    }


def _composed(inner: str) -> dict[str, Case]:
    """Language models that contain a recurrent one or a Transformer."""
    family, block = LANGUAGE_MODELS[inner]
    component = Case(family=family, task="language_model", block=block)
    cache = Case(family="cache_lm", task="language_model", block={"window": 7}, component=component)
    return {
        f"cache of a {inner}": cache,
        f"n-grams with a cache of a {inner}": Case(
            family="interpolated_lm",
            task="language_model",
            block={"ngrams": {"trigram": NGRAMS}},
            component=cache,
        ),
    }


COUNTED_TRANSLATORS: Blocks = {
    "IBM model 1": ("ibm1", {"iterations": 3, "tension": 1.0, "bigram": 0.5}),
    **{
        f"translation memory, {similarity}": ("translation_memory", {"similarity": similarity})
        for similarity in ("overlap", "tf_idf", "edit")
    },
}
COUNTED_LANGUAGE_MODELS: Blocks = {
    "n-grams": ("ngram_lm", NGRAMS),
    "n-grams within rows": ("ngram_lm", NGRAMS | {"order": 4, "across_rows": False}),
    "one-grams": ("ngram_lm", NGRAMS | {"order": 1}),
    "mixed n-grams": ("interpolated_lm", {"ngrams": {"three": NGRAMS, "two": NGRAMS}}),
}
OTHER_CLASSIFIERS: Blocks = {
    "fine-tuned bert": ("bert_classifier", BERT),
    "naive Bayes": ("naive_bayes", BAYES),
    "nbsvm": ("nbsvm", NBSVM),
}
PAIRS: Blocks = {
    "decomposable attention": (
        "decomposable_attention",
        {"embedding": 16, "hidden": 24, "dropout": 0.0},
    ),
    "bert of pairs": ("bert_pair_classifier", BERT),
    "naive Bayes of pairs": ("pair_naive_bayes", BAYES | {"texts": "both", "ngrams": 1}),
    "overlap of pairs": ("overlap_classifier", {"C": 1.0}),
}
BLANK_FILLERS: Blocks = {
    **{
        f"bidirectional {cell}": ("bidirectional_lm", BIDIRECTIONAL | {"cell": cell})
        for cell in ("rnn", "gru", "lstm")
    },
    "neighbours of a blank": ("neighbour_blanks", {}),
}
MASKED: Blocks = {
    "bert": ("bert", BERT),
    "bert, equations": ("bert", BERT | {"implementation": "equations"}),
    "neighbours of a mask": ("neighbour_masks", {}),
}
VECTORS: Blocks = {
    "word2vec": ("word2vec", {"dimension": 12}),
    "glove": ("glove", {"dimension": 12}),
    "subwords": ("subword_vectors", {"dimension": 12, "shortest": 3, "longest": 6, "buckets": 50}),
    "ppmi": (
        "ppmi_svd",
        {
            "dimension": 8,
            "window": 4,
            "dynamic": True,
            "smoothing": 0.75,
            "shift": 1.0,
            "eigenvalues": 0.5,
        },
    ),
}
FORECASTERS: Blocks = {
    "perceptron": ("lag_mlp", {"lags": 5, "hidden": 16}),
    **{
        f"recurrent {cell}": (
            "recurrent_ar",
            {"cell": cell, "lags": 6, "hidden": 12, "layers": 1, "implementation": "fused"},
        )
        for cell in ("rnn", "gru", "lstm")
    },
    "linear": ("linear_ar", {"lags": 4}),
    "last value": ("last_value", {}),
    "mean": ("average_pooling", {}),
    "kernel": ("nadaraya_watson", {"lags": 1, "width": 0.5, "learned": False}),
    "learned kernel": ("nadaraya_watson", {"lags": 2, "width": 0.5, "learned": True}),
}
CASES: dict[str, Case] = {
    **_cases("translation", TRANSLATORS | COUNTED_TRANSLATORS),
    **_cases("language_model", LANGUAGE_MODELS, " language model"),
    **_cases("language_model", COUNTED_LANGUAGE_MODELS),
    **_composed("lstm tied"),
    **_composed("transformer"),
    **_cases("classification", CLASSIFIERS, " classifier"),
    **_cases("classification", OTHER_CLASSIFIERS),
    **_cases("pair_classification", PAIRS),
    **_cases("fill_blank", BLANK_FILLERS),
    **_cases("masked_language_model", MASKED),
    **_cases("word_vectors", VECTORS),
    **_cases("series", FORECASTERS),
    **_cases("image_classification", PICTURES, " of pictures"),
    "neighbours of pictures": Case(
        family="image_neighbours", task="image_classification", block=NEIGHBOURS
    ),
}
