"""Who attends to whom: one function for each topology, from the inputs to the output."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.fuzz.build import TOPOLOGIES, USES, Flow, Inputs, Net, beside
from tests.fuzz.truth import united

Topology = Callable[[Net, Inputs], Tensor]


def topology(*uses: str) -> Callable[[Topology], Topology]:
    def enter(forward: Topology) -> Topology:
        TOPOLOGIES[forward.__name__] = forward
        USES[forward.__name__] = uses
        return forward

    return enter


@topology("words")
def encoder(net: Net, inputs: Inputs) -> Tensor:
    x = net.stack("layer", net.born(inputs, "words", net.recipe.special))
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def decoder(net: Net, inputs: Inputs) -> Tensor:
    x = net.stack("layer", net.born(inputs, "words"), causal=True)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("regions", "words")
def encoder_decoder(net: Net, inputs: Inputs) -> Tensor:
    source = net.stack("encoder", net.born(inputs, "regions", net.recipe.special))
    x = net.born(inputs, "words")
    for layer in range(net.recipe.depth):
        x = net.residual(f"own{layer}", x, x, causal=True)
        x = net.block(f"cross{layer}", x, source)
    net.finals(regions=source, words=x)
    return net.head(net.pooled(x))


@topology("words", "regions")
def co_attention(net: Net, inputs: Inputs) -> Tensor:
    """Both directions read the values from before either."""
    words, regions = net.born(inputs, "words", net.recipe.special), net.born(inputs, "regions")
    for layer in range(net.recipe.depth):
        words, regions = (
            net.block(f"words{layer}", words, regions),
            net.block(f"regions{layer}", regions, words),
        )
        words, regions = net.block(f"w{layer}", words), net.block(f"r{layer}", regions)
    net.finals(words=words, regions=regions)
    return net.head(net.pooled(words))


@topology("words", "regions")
def co_attention_fused(net: Net, inputs: Inputs) -> Tensor:
    """One direction after the other; read from both."""
    words, regions = net.born(inputs, "words", net.recipe.special), net.born(inputs, "regions")
    for layer in range(net.recipe.depth):
        words = net.block(f"words{layer}", words, regions)
        regions = net.block(f"regions{layer}", regions, words)
    net.finals(words=words, regions=regions)
    return net.head(net.pooled(words), net.pooled(regions, "mean"))


@topology("words", "regions")
def late_fusion(net: Net, inputs: Inputs) -> Tensor:
    words = net.stack("words", net.born(inputs, "words", net.recipe.special))
    regions = net.stack("regions", net.born(inputs, "regions"))
    net.finals(words=words, regions=regions)
    return net.head(net.pooled(words), net.pooled(regions, "mean"))


@topology("words", "regions", "sounds")
def three(net: Net, inputs: Inputs) -> Tensor:
    """Each hears of the next; fused from all three."""
    flows = [net.born(inputs, name) for name in ("words", "regions", "sounds")]
    for layer in range(net.recipe.depth):
        flows = [net.block(f"own{layer}_{i}", flow) for i, flow in enumerate(flows)]
        for i in range(3):
            flows[i] = net.block(f"cross{layer}_{i}", flows[i], flows[(i + 1) % 3])
    net.finals(words=flows[0], regions=flows[1], sounds=flows[2])
    return net.head(
        net.pooled(flows[0]), net.pooled(flows[1], "mean"), net.pooled(flows[2], "first")
    )


@topology("words", "regions", "sounds")
def three_at_once(net: Net, inputs: Inputs) -> Tensor:
    """Words attend to regions and sounds under one softmax, regions to sounds; words are read."""
    words, regions, sounds = (net.born(inputs, n) for n in ("words", "regions", "sounds"))
    for layer in range(net.recipe.depth):
        regions = net.block(f"regions{layer}", regions, sounds)
        words = net.block(f"words{layer}", words, beside(regions, sounds))
        words = net.block(f"own{layer}", words)
    net.finals(words=words, regions=regions, sounds=sounds)
    return net.head(net.pooled(words))


@topology("words", "regions")
def merged_sequence(net: Net, inputs: Inputs) -> Tensor:
    """Image tokens put among the words."""
    words, regions = net.born(inputs, "words"), net.born(inputs, "regions")
    net.joint("words", "regions")
    x = beside(words.part(0, 1), regions, words.part(1, None))
    x = net.stack("layer", x, causal=True)
    net.finals(all=x)
    return net.head(net.pooled(x))


@topology("words", "regions")
def joint_sequence(net: Net, inputs: Inputs) -> Tensor:
    words, regions = net.born(inputs, "words", net.recipe.special), net.born(inputs, "regions")
    net.joint("words", "regions")
    x = net.stack("layer", beside(words, regions))
    net.finals(all=x)
    return net.head(net.pooled(x))


@topology("words")
def latents(net: Net, inputs: Inputs) -> Tensor:
    """Perceiver: learned queries attend to the words, then to themselves."""
    words = net.born(inputs, "words")
    x = net.learned("latents", 3, words.x.shape[0])
    for layer in range(net.recipe.depth):
        x = net.block(f"read{layer}", x, words)
        x = net.block(f"own{layer}", x)
    net.finals(latents=x)
    return net.head(net.pooled(x, "mean"))


@topology("regions")
def windows(net: Net, inputs: Inputs) -> Tensor:
    """Two windows, then two others after a shift by one; written window by window."""
    x = net.born(inputs, "regions")
    half = x.x.shape[1] // 2
    for shift in (0, 1):
        first, second = x.part(shift, half + shift), beside(x.part(half + shift, None), x.part(0, shift))
        windows = [net.block(f"shift{shift}", window) for window in (first, second)]
        x = beside(*windows)
        x = beside(x.part(x.x.shape[1] - shift, None), x.part(0, x.x.shape[1] - shift)) if shift else x
    net.finals(regions=x)
    return net.head(net.pooled(x, "mean"))


@topology("words")
def dense_skips(net: Net, inputs: Inputs) -> Tensor:
    """U-shaped: what went in is added again at the end."""
    start = net.born(inputs, "words", net.recipe.special)
    first = net.block("first", start)
    middle = net.block("middle", first)
    rows = None if net.ledger is None else united(middle.rows, first.rows)
    x = net.block("last", Flow(middle.x + first.x, middle.keep, rows))
    rows = None if net.ledger is None else united(x.rows, start.rows)
    x = Flow(x.x + start.x, x.keep, rows)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def recurrence(net: Net, inputs: Inputs) -> Tensor:
    """One block's weights, three times."""
    x = net.born(inputs, "words", net.recipe.special)
    for _ in range(3):
        x = net.block("shared", x)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("regions")
def token_dropping(net: Net, inputs: Inputs) -> Tensor:
    """After a block the two tokens with the highest scores go on."""
    x = net.block("first", net.born(inputs, "regions"))
    score = net.linear("score", x.x, 1).squeeze(-1)
    index = score.topk(2, dim=1).indices.sort(1).values
    kept = net.block("second", x.picked(index))
    net.finals(first=x, kept=kept)
    return net.head(net.pooled(kept, "mean"))


@topology("regions")
def early_exit(net: Net, inputs: Inputs) -> Tensor:
    """The last block is not read."""
    x = net.stack("layer", net.born(inputs, "regions", net.recipe.special))
    net.block("unread", x)
    net.finals(regions=x)
    return net.head(net.pooled(x))


@topology("words", "regions")
def dead_branch(net: Net, inputs: Inputs) -> Tensor:
    """LXMERT: the last attention of the stream that is not read goes nowhere."""
    words, regions = net.born(inputs, "words"), net.born(inputs, "regions")
    words = net.block("words", words, regions)
    regions = net.block("regions", regions, words)
    words = net.block("words_again", words, regions)
    net.block("dead", regions, words)
    net.finals(words=words, regions=regions)
    return net.head(net.pooled(words))


@topology("words")
def registers(net: Net, inputs: Inputs) -> Tensor:
    """Two special tokens in front of the words, read as first or mean."""
    x = net.stack("layer", net.born(inputs, "words", 2))
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def shared_keys(net: Net, inputs: Inputs) -> Tensor:
    """Later layers attend to the first layer's tokens."""
    start = net.born(inputs, "words", net.recipe.special)
    x = net.block("first", start)
    x = net.block("second", x, start)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def gated_experts(net: Net, inputs: Inputs) -> Tensor:
    """A mixture of two experts after attention: weights over experts, not over tokens."""
    x = net.residual("layer", *[net.born(inputs, "words", net.recipe.special)] * 2)
    gate = net.linear("gate", x.x, 2).softmax(-1)
    experts = torch.stack([net.linear(f"expert{i}", x.x, net.recipe.width) for i in range(2)], -1)
    x = Flow(x.x + (experts * gate[..., None, :]).sum(-1), x.keep, x.rows)
    x = net.block("after", x)
    net.finals(words=x)
    return net.head(net.pooled(x))
