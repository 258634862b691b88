"""Who attends to whom: one function for each topology, from the inputs to the output."""

from collections.abc import Callable

import numpy as np
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
        net.pooled(flows[0]), net.pooled(flows[1], "mean"), net.pooled(flows[2], "mean")
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
        first, second = (
            x.part(shift, half + shift),
            beside(x.part(half + shift, None), x.part(0, shift)),
        )
        windows = [net.block(f"shift{shift}", window) for window in (first, second)]
        x = beside(*windows)
        x = (
            beside(x.part(x.x.shape[1] - shift, None), x.part(0, x.x.shape[1] - shift))
            if shift
            else x
        )
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


def stacked(net: Net, flows: list[Flow]) -> Flow:
    """Flows of equal length, token by token: the first of each, the second of each and so on."""
    x = torch.stack([flow.x for flow in flows], 2).flatten(1, 2)
    if net.ledger is None:
        return Flow(x)
    told = zip(*(flow.rows for flow in flows), strict=True)
    return Flow(x, None, [[row for at in zip(*of, strict=True) for row in at] for of in told])


@topology("words", "regions")
def interleaved(net: Net, inputs: Inputs) -> Tensor:
    """A decision transformer's order: a word, its region, the next word."""
    flows = [net.born({"words": inputs["words"]}, "words"), net.born(inputs, "regions")]
    net.joint("words", "regions")
    count = min(flow.x.shape[1] for flow in flows)
    rest = [flow.part(count, None) for flow in flows if flow.x.shape[1] > count]
    x = beside(stacked(net, [flow.part(0, count) for flow in flows]), *rest)
    x = net.stack("layer", x)
    net.finals(all=x)
    return net.head(net.pooled(x, "mean"))


@topology("regions")
def pair_means(net: Net, inputs: Inputs) -> Tensor:
    """Tokens merged two by two (and a last one that has no partner left alone)."""
    x = net.block("before", net.born(inputs, "regions"))
    net.finals(regions=x)
    return net.head(net.pooled(net.block("after", halved(net, x, "merged", "merged")), "mean"))


def halved(net: Net, x: Flow, name: str, stream: str) -> Flow:
    """The means of two tokens each, a stream's rows (a last one without a partner is left out)."""
    count = x.x.shape[1] // 2 * 2
    made = x.x[:, :count].unflatten(1, (-1, 2)).mean(2)
    rows = None
    if net.ledger is not None:
        weights, old = np.kron(np.eye(count // 2), [[0.5, 0.5]]), x.part(0, count).rows
        rows = net.ledger.routed([weights] * len(old), old, name)
        net.ledger.stream[name] = stream
    return Flow(made, None, rows)


@topology("regions")
def axial(net: Net, inputs: Inputs) -> Tensor:
    """Attention within the even and the odd tokens, then among all."""
    x = net.born(inputs, "regions")
    count, batch = x.x.shape[1], x.x.shape[0]
    order = [*range(0, count, 2), *range(1, count, 2)]
    even = (count + 1) // 2
    parts = [torch.tensor([at] * batch) for at in (order[:even], order[even:])]
    x = beside(*(net.block("columns", x.picked(at)) for at in parts))
    back = torch.tensor([[order.index(i) for i in range(count)]] * batch)
    x = net.stack("all", x.picked(back))
    net.finals(regions=x)
    return net.head(net.pooled(x))


@topology("words")
def residual_streams(net: Net, inputs: Inputs) -> Tensor:
    """Hyper-connections: two residual streams, read and written with learned weights."""
    start = net.born(inputs, "words", net.recipe.special)
    streams = [start.x, start.x]
    rows = start.rows
    for layer in range(net.recipe.depth):
        read, write = net.number(f"read{layer}", 2), net.number(f"write{layer}", 2)
        x = streams[0] * read[0] + streams[1] * read[1]
        asking = Flow(net.norm(f"stream{layer}", x), start.keep, rows)
        heard = net.attend(f"layer{layer}", asking, asking)
        streams = [stream + heard.x * write[i] for i, stream in enumerate(streams)]
        rows = None if net.ledger is None else united(rows, heard.rows)
    x = Flow(streams[0] + streams[1], start.keep, rows)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("regions")
def mixture_of_depths(net: Net, inputs: Inputs) -> Tensor:
    """The two tokens with the highest scores go through a block, the others round it."""
    x = net.block("first", net.born(inputs, "regions"))
    index = net.linear("score", x.x, 1).squeeze(-1).topk(2, dim=1).indices.sort(1).values
    chosen = net.block("deep", x.picked(index))
    wide = index[..., None].expand(-1, -1, x.x.shape[-1])
    rows = None
    if net.ledger is not None:
        rows = [list(of) for of in x.rows]
        for b, places in enumerate(index.tolist()):
            for i, place in enumerate(places):
                rows[b][place] = chosen.rows[b][i]
    x = net.block("last", Flow(x.x.scatter(1, wide, chosen.x), x.keep, rows))
    net.finals(regions=x)
    return net.head(net.pooled(x))


@topology("words")
def attention_pooling(net: Net, inputs: Inputs) -> Tensor:
    """A learned query reads the words and is read at once."""
    words = net.stack("layer", net.born(inputs, "words"))
    net.finals(words=words)
    query = net.learned("query", 1, words.x.shape[0])
    heard = net.attend("pool", query, words)
    net.finals(query=heard)
    return net.head(net.pooled(Flow(heard.x, None, heard.rows), "first"))


@topology("words", "regions", "sounds")
def relay(net: Net, inputs: Inputs) -> Tensor:
    """Regions hear of sounds, words of regions; words hear of the sounds themselves at the end."""
    words, regions, sounds = (net.born(inputs, n) for n in ("words", "regions", "sounds"))
    regions = net.block("regions", regions, sounds)
    words = net.block("words", words, regions)
    words = net.block("sounds", words, sounds)
    regions = net.block("back", regions, words)
    net.finals(words=words, regions=regions, sounds=sounds)
    return net.head(net.pooled(words), net.pooled(regions, "mean"))
