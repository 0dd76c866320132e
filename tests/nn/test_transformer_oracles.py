"""The Transformer against two others: torch's own and the `transformers` library's, with every
weight drawn at random and copied, in value and in gradient, over a padded source. In float64, so
that nothing but the same function passes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from reference_modules import Same, assert_same_gradients, give, module, weighed
from torch import Tensor, nn

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.nn.positional import sinusoidal_TH
from pipeline.training import checkpoint

WIDTH, HEADS, HIDDEN, LAYERS, WORDS = 32, 4, 64, 2, 14
BLOCK: dict[str, Any] = {
    "width": WIDTH,
    "heads": HEADS,
    "feed_forward": HIDDEN,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "variants": [],
    "dropout": 0.0,
    "norm": "layer",
    "learned_positions": None,
}
PROMPT = Prompt(
    torch.tensor([[5, 6, 7, 8, EOS, PAD], [9, EOS, PAD, PAD, PAD, PAD], [4, 5, 9, 10, 11, EOS]]),
    torch.tensor([5, 2, 6]),
)
TARGET_BT = torch.tensor([[BOS, 4, 5, 6], [BOS, 6, 7, 13], [BOS, 8, 12, 4]])
each_implementation = pytest.mark.parametrize("implementation", ["fused", "equations"])
each_norm = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])


def built(**changes: Any) -> Any:
    """Ours, with no parameter at its start: biases of zero and norms that are the identity would
    hide a wrong one."""
    torch.manual_seed(5)
    sizes = Sizes(WORDS, WORDS, changes["tied"] == "all")
    model: Any = checkpoint.build("transformer", BLOCK | changes, sizes, "model").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


# torch's own


def of_torch(own: nn.Transformer, model: Any) -> Iterator[Same]:
    def attention(theirs: nn.MultiheadAttention, ours: Any) -> Iterator[Same]:
        yield Same([theirs.in_proj_weight], [ours.query.weight, ours.key_value.weight])
        yield Same([theirs.in_proj_bias], [ours.query.bias, ours.key_value.bias])
        yield from module(theirs.out_proj, ours.output)

    def feed_forward(theirs: Any, norm: nn.Module, ours: Any) -> Iterator[Same]:
        yield from module(norm, ours.residual.norm)
        yield from module(theirs.linear1, ours.layers[0])
        yield from module(theirs.linear2, ours.layers[2])

    for theirs, ours in zip(own.encoder.layers, model.encoder, strict=True):
        yield from attention(theirs.self_attn, ours.own.attention)
        yield from module(theirs.norm1, ours.own.residual.norm)
        yield from feed_forward(theirs, theirs.norm2, ours.feed_forward)
    for theirs, ours in zip(own.decoder.layers, model.decoder, strict=True):
        yield from attention(theirs.self_attn, ours.own.attention)
        yield from module(theirs.norm1, ours.own.residual.norm)
        yield from attention(theirs.multihead_attn, ours.cross)
        yield from module(theirs.norm2, ours.cross_residual.norm)
        yield from feed_forward(theirs, theirs.norm3, ours.feed_forward)
    yield from module(own.encoder.norm, model.encoder_norm)  # type: ignore[arg-type]
    yield from module(own.decoder.norm, model.decoder_norm)  # type: ignore[arg-type]


@each_norm
@each_implementation
def test_the_transformer_is_torchs_own_in_value_and_gradient(
    norm_first: bool, implementation: str
) -> None:
    model = built(norm_first=norm_first, tied="none", implementation=implementation)
    own = nn.Transformer(
        WIDTH, HEADS, LAYERS, LAYERS, HIDDEN, 0.0, batch_first=True, norm_first=norm_first
    ).double()
    if not norm_first:
        own.encoder.norm = own.decoder.norm = nn.Identity()  # type: ignore[assignment]
    inner = [model.source.weight, model.target.weight]
    pairs = list(of_torch(own, model))
    give(
        pairs,
        own,
        nn.ModuleList([model.encoder, model.decoder, model.encoder_norm, model.decoder_norm]),
    )
    padding_BS, size = PROMPT.ids_BS == PAD, TARGET_BT.shape[1]
    want = own(
        model.embed(model.source, PROMPT.ids_BS, 0),
        model.embed(model.target, TARGET_BT, 0),
        tgt_mask=torch.ones(size, size, dtype=torch.bool).triu(1),
        src_key_padding_mask=padding_BS,
        memory_key_padding_mask=padding_BS,
    )
    wanted = torch.autograd.grad(weighed(want), inner, retain_graph=True)
    weighed(want).backward()
    model.zero_grad()
    found = model.hidden(PROMPT, TARGET_BT)
    weighed(found).backward()
    torch.testing.assert_close(found, want)
    assert_same_gradients(pairs)
    for table, gradient in zip(inner, wanted, strict=True):
        assert gradient.any()
        torch.testing.assert_close(table.grad, gradient)


# The library's


def of_library(theirs: Any, model: Any) -> Iterator[Same]:
    def attention(their: Any, our: Any) -> Iterator[Same]:
        yield from module(their.q_proj, our.query)
        yield Same([their.k_proj.weight, their.v_proj.weight], [our.key_value.weight])
        yield Same([their.k_proj.bias, their.v_proj.bias], [our.key_value.bias])
        yield from module(their.out_proj, our.output)

    def feed_forward(their: Any, our: Any) -> Iterator[Same]:
        yield from module(their.fc1, our.layers[0])
        yield from module(their.fc2, our.layers[2])
        yield from module(their.final_layer_norm, our.residual.norm)

    for their, our in zip(theirs.model.encoder.layers, model.encoder, strict=True):
        yield from attention(their.self_attn, our.own.attention)
        yield from module(their.self_attn_layer_norm, our.own.residual.norm)
        yield from feed_forward(their, our.feed_forward)
    for their, our in zip(theirs.model.decoder.layers, model.decoder, strict=True):
        yield from attention(their.self_attn, our.own.attention)
        yield from module(their.self_attn_layer_norm, our.own.residual.norm)
        yield from attention(their.encoder_attn, our.cross)
        yield from module(their.encoder_attn_layer_norm, our.cross_residual.norm)
        yield from feed_forward(their, our.feed_forward)


def of_the_tables(theirs: Any, model: Any) -> Iterator[Same]:
    """Untied: Marian's. Tied: Pegasus', whose stacks also end in a norm."""
    if model.source is model.target:
        yield Same([theirs.model.shared.weight], [model.output.weight])
        yield from module(theirs.model.encoder.layer_norm, model.encoder_norm)
        yield from module(theirs.model.decoder.layer_norm, model.decoder_norm)
        return
    yield from module(theirs.model.encoder.embed_tokens, model.source)
    yield from module(theirs.model.decoder.embed_tokens, model.target)
    yield Same([theirs.lm_head.weight], [model.output.weight])


@each_norm
@each_implementation
def test_the_transformer_is_that_of_the_transformers_library(
    norm_first: bool, implementation: str
) -> None:
    """Marian's is post-norm with tables of its own for each side, Pegasus' pre-norm with one table
    for all."""
    import transformers as library

    model = built(
        norm_first=norm_first, tied="all" if norm_first else "none", implementation=implementation
    )
    config: dict[str, Any] = {
        "vocab_size": WORDS,
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": HIDDEN,
        "decoder_ffn_dim": HIDDEN,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "scale_embedding": True,
        "max_position_embeddings": 16,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "decoder_start_token_id": BOS,
        "tie_word_embeddings": norm_first,
    }
    if norm_first:
        theirs = library.PegasusForConditionalGeneration(library.PegasusConfig(**config)).double()
    else:
        sides = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": WORDS}
        theirs = library.MarianMTModel(library.MarianConfig(**config, **sides)).double()
    pairs = [*of_library(theirs, model), *of_the_tables(theirs, model)]
    ours = nn.ModuleList(part for name, part in model.named_children() if name != "output")
    ours.register_parameter("output", model.output.weight)
    give(pairs, theirs, ours)
    with torch.no_grad():
        theirs.final_logits_bias.copy_(model.output.bias)
        for side in (theirs.model.encoder, theirs.model.decoder):
            side.embed_positions.weight.copy_(sinusoidal_TH(16, WIDTH))
    said = theirs(
        input_ids=PROMPT.ids_BS,
        attention_mask=(PROMPT.ids_BS != PAD).long(),
        decoder_input_ids=TARGET_BT,
        output_hidden_states=True,
        use_cache=False,
    )
    read: list[Tensor] = []
    model.encoder_norm.register_forward_hook(lambda _module, _given, made: read.append(made))
    hidden_BTH = model.hidden(PROMPT, TARGET_BT)
    logits_BTV = model.project(hidden_BTH)
    real_BS = PROMPT.ids_BS != PAD
    torch.testing.assert_close(read[0][real_BS], said.encoder_last_hidden_state[real_BS])
    torch.testing.assert_close(hidden_BTH, said.decoder_hidden_states[-1])
    torch.testing.assert_close(logits_BTV, said.logits)
    weighed(logits_BTV, hidden_BTH).backward()
    weighed(said.logits, said.decoder_hidden_states[-1]).backward()
    assert_same_gradients(pairs)
