"""Our models beside those of other libraries: which weights are the same, and whether their
gradients are."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.contracts import PAD


class Same(NamedTuple):
    """Parameters of another's model, and those of ours that are the same numbers in the same
    order."""

    theirs: list[Tensor]
    ours: list[Tensor]


def module(theirs: nn.Module, ours: nn.Module) -> Iterator[Same]:
    """Of two layers of one kind."""
    for their, our in zip(theirs.parameters(), ours.parameters(), strict=True):
        yield Same([their], [our])


def give(pairs: list[Same], theirs: nn.Module, ours: nn.Module, *apart: Tensor) -> None:
    """Give the other model our weights; both must be covered to the last parameter, but for those
    `apart`."""
    for model, named in (
        (theirs, [p for pair in pairs for p in pair.theirs]),
        (ours, [p for pair in pairs for p in pair.ours]),
    ):
        learned = {id(p) for p in model.parameters() if p.requires_grad} - {id(p) for p in apart}
        assert {id(p) for p in named} == learned
        assert len(named) == len(learned)
    with torch.no_grad():
        for pair in pairs:
            for part, value in zip(
                pair.theirs, torch.cat(pair.ours).split([len(p) for p in pair.theirs]), strict=True
            ):
                part.copy_(value)


def assert_same_gradients(pairs: list[Same]) -> None:
    for pair in pairs:
        their, our = (torch.cat([part.grad for part in parts]) for parts in pair)  # type: ignore[misc]
        assert our.any()
        torch.testing.assert_close(our, their)


def weighed(*outputs: Tensor) -> Tensor:
    """A number that depends on every part of the outputs, each in its own measure."""
    generator = torch.Generator().manual_seed(2)
    return torch.stack(
        [(out * torch.randn(out.shape, generator=generator)).sum() for out in outputs]
    ).sum()


def randomised(model: Any) -> Any:
    """The model in float64 with no parameter at its start: biases of zero and norms that are the
    identity would hide a wrong one."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def bert_encoder(theirs: Any, ours: Any) -> Iterator[Same]:
    """The encoders of BERT, ours and that of the transformers library."""
    encoder, embeddings = ours.encoder, theirs.bert.embeddings
    yield Same([embeddings.word_embeddings.weight], [encoder.tokens.weight])
    yield Same([embeddings.token_type_embeddings.weight], [encoder.segments.weight])
    yield Same([embeddings.position_embeddings.weight], [encoder.positions.table.weight])
    yield from module(embeddings.LayerNorm, encoder.norm)
    for block, layer in zip(encoder.blocks, theirs.bert.encoder.layer, strict=True):
        attention, projections = layer.attention.self, block.own.attention
        yield from module(attention.query, projections.query)
        for kind in ("weight", "bias"):
            separate = [getattr(part, kind) for part in (attention.key, attention.value)]
            yield Same(separate, [getattr(projections.key_value, kind)])
        yield from module(layer.attention.output.dense, projections.output)
        yield from module(layer.attention.output.LayerNorm, block.own.residual.norm)
        yield from module(layer.intermediate.dense, block.feed_forward.layers[0])
        yield from module(layer.output.dense, block.feed_forward.layers[2])
        yield from module(layer.output.LayerNorm, block.feed_forward.residual.norm)
    yield from module(theirs.bert.pooler.dense, encoder.pooler)


def bert_config(vocabulary: int, block: dict[str, Any]) -> Any:
    """The transformers library's configuration of BERT with the sizes of a block `model:`."""
    import transformers

    return transformers.BertConfig(
        vocab_size=vocabulary + 1,  # <mask> has the last row
        hidden_size=block["width"],
        num_hidden_layers=block["layers"],
        num_attention_heads=block["heads"],
        intermediate_size=block["feed_forward"],
        max_position_embeddings=block["learned_positions"],
        layer_norm_eps=1e-5,  # torch's default; 1e-12 there
        pad_token_id=PAD,
        num_labels=3,
    )
