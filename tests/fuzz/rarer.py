"""Rarer topologies: residual streams, keys and values of other layers, memories, merged tokens."""

import numpy as np
import torch
from torch import Tensor

from tests.fuzz.build import CHUNKS, Flow, Inputs, Net, beside
from tests.fuzz.topologies import TOPOLOGIES, halved, topology
from tests.fuzz.truth import Row, united

__all__ = ["TOPOLOGIES", "added"]


def added(net: Net, *flows: Flow) -> Flow:
    """The sum of values of the same tokens."""
    rows = flows[0].rows
    if net.ledger is not None:
        for flow in flows[1:]:
            rows = united(rows, flow.rows)
    return Flow(sum(flow.x for flow in flows[1:]) + flows[0].x, flows[0].keep, rows)


@topology("words")
def dense(net: Net, inputs: Inputs) -> Tensor:
    """Every layer reads the sum of all before it, each with a learned weight."""
    flows = [net.born(inputs, "words", net.recipe.special)]
    for layer in range(3):
        weights = net.number(f"read{layer}", layer + 1)
        scaled = [Flow(flow.x * weights[i], flow.keep, flow.rows) for i, flow in enumerate(flows)]
        flows.append(net.block(f"layer{layer}", added(net, *scaled)))
    x = added(net, *flows)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def sinkhorn_streams(net: Net, inputs: Inputs) -> Tensor:
    """Hyper-connections: two streams mixed by a matrix whose rows and columns sum to one."""
    start = net.born(inputs, "words", net.recipe.special)
    streams, rows = torch.stack([start.x, start.x * 0.5], 2), start.rows
    for layer in range(net.recipe.depth):
        mixing = net.number(f"mix{layer}", 2, 2).exp()
        for _ in range(3):
            mixing = mixing / mixing.sum(0, keepdim=True)
            mixing = mixing / mixing.sum(1, keepdim=True)
        streams = torch.einsum("ij,bnjd->bnid", mixing, streams)
        read = net.number(f"pick{layer}", 2).softmax(0)
        x = torch.einsum("j,bnjd->bnd", read, streams)
        asking = Flow(net.norm(f"stream{layer}", x), start.keep, rows)
        heard = net.attend(f"layer{layer}", asking, asking)
        streams = streams + heard.x[:, :, None] * net.number(f"write{layer}", 2)[:, None]
        rows = None if net.ledger is None else united(rows, heard.rows)
    x = Flow(streams.sum(2), start.keep, rows)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def dynamic_streams(net: Net, inputs: Inputs) -> Tensor:
    """Two streams, read with weights that each token makes for itself."""
    start = net.born(inputs, "words", net.recipe.special)
    streams, rows = [start.x, net.linear("second", start.x, net.recipe.width)], start.rows
    for layer in range(net.recipe.depth):
        gate = net.linear(f"gate{layer}", streams[0], 2).softmax(-1)
        x = (torch.stack(streams, -1) * gate[:, :, None]).sum(-1)
        asking = Flow(net.norm(f"stream{layer}", x), start.keep, rows)
        heard = net.attend(f"layer{layer}", asking, asking)
        streams = [stream + heard.x for stream in streams]
        rows = None if net.ledger is None else united(rows, heard.rows)
    x = Flow(streams[0] + streams[1], start.keep, rows)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def layer_mix(net: Net, inputs: Inputs) -> Tensor:
    """ELMo: the layers' outputs with softmax weights."""
    flows = [net.born(inputs, "words", net.recipe.special)]
    for layer in range(2):
        flows.append(net.block(f"layer{layer}", flows[-1]))
    weights = net.number("layers", len(flows)).softmax(0)
    mixed = torch.stack([flow.x for flow in flows], -1) @ weights
    x = Flow(mixed, flows[0].keep, added(net, *flows).rows)
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def reused_keys(net: Net, inputs: Inputs) -> Tensor:
    """The second layer attends to the very keys and values of the first."""
    start = net.born(inputs, "words", net.recipe.special)
    asking = Flow(net.norm("first", start.x), start.keep, start.rows)
    q, k, v = net.projected("first", asking, asking)
    x = added(net, start, net.attended("first", asking, asking, q, k, v, False))
    x = net.mlp("first", x)
    again = Flow(net.norm("second", x.x), x.keep, x.rows)
    q = net.linear("second_q", again.x, net.recipe.width).unflatten(-1, (net.recipe.heads, -1))
    x = added(net, x, net.attended("second", again, asking, q, k, v, False))
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def value_residual(net: Net, inputs: Inputs) -> Tensor:
    """The second layer's values are mixed with the first's."""
    start = net.born(inputs, "words", net.recipe.special)
    asking = Flow(net.norm("first", start.x), start.keep, start.rows)
    q, k, first = net.projected("first", asking, asking)
    x = added(net, start, net.attended("first", asking, asking, q, k, first, False))
    again = Flow(net.norm("second", x.x), x.keep, x.rows)
    q, k, v = net.projected("second", again, again)
    share = net.number("read_share", 1)
    v = v * share + first * (1 - share)  # what the first has absorbed the second's have, too
    x = added(net, x, net.attended("second", again, again, q, k, v, False))
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def memory_keys(net: Net, inputs: Inputs) -> Tensor:
    """Learned tokens that are attended to and never ask."""
    x = net.born(inputs, "words", 2)
    memory, x = x.part(0, 2), x.part(2, None)
    for layer in range(net.recipe.depth):
        x = net.block(f"layer{layer}", x, beside(memory, x))
    net.finals(words=x)
    return net.head(net.pooled(x))


@topology("words")
def recurrent_memory(net: Net, inputs: Inputs) -> Tensor:
    """Two segments, one after the other: what the first left in two memory tokens, the second reads."""
    x = net.born(inputs, "words", 2)
    memory, words = x.part(0, 2), x.part(2, None)
    count = words.x.shape[1]
    first = net.stack("layer", beside(memory, words.part(0, count // 2)))
    second = net.stack("layer", beside(first.part(0, 2), words.part(count // 2, None)))
    net.finals(first=first, second=second)
    return net.head(net.pooled(second))


CHUNKS["recurrent_memory"] = 2


@topology("words")
def folded_chunks(net: Net, inputs: Inputs) -> Tensor:
    """Long texts: two chunks of each are samples of the batch, then one sequence again."""
    x = net.born(inputs, "words")
    count = x.x.shape[1] // 2
    if net.ledger is None:
        folded = Flow(
            x.x.reshape(-1, count, x.x.shape[-1]),
            None if x.keep is None else x.keep.reshape(-1, count),
        )
        folded = net.stack("layer", folded)
        x = Flow(folded.x.reshape(x.x.shape), x.keep)
    else:
        x = beside(*(net.stack("layer", x.part(a, a + count)) for a in (0, count)))
    net.finals(words=x)
    return net.head(net.pooled(x))


CHUNKS["folded_chunks"] = 2


@topology("regions")
def bipartite_merging(net: Net, inputs: Inputs) -> Tensor:
    """ToMe: each odd token is merged into the even one that it is most like."""
    x = net.block("before", net.born(inputs, "regions"))
    net.finals(regions=x)
    even, odd = x.x[:, ::2], x.x[:, 1::2]
    directions = [torch.nn.functional.normalize(part, dim=-1) for part in (odd, even)]
    nearest = (directions[0] @ directions[1].mT).argmax(-1)
    wide = nearest[..., None].expand(-1, -1, even.shape[-1])
    merged = even.scatter_reduce(1, wide, odd, reduce="mean")
    rows = None
    if net.ledger is not None:
        weights, old = [], []
        for b, of in enumerate(x.rows):
            own = np.zeros((even.shape[1], len(of)))
            own[np.arange(even.shape[1]), np.arange(0, len(of), 2)] = 1
            own[nearest[b].numpy(), np.arange(1, len(of), 2)] = 1
            weights.append(own / own.sum(1, keepdims=True))
            old.append(of)
        made = net.ledger.routed(weights, old, "merged")
        rows = [  # the even tokens go on, with what was merged into them
            [Row(("regions", 2 * i), row.sources) for i, row in enumerate(of)] for of in made
        ]
    merged_flow = net.block("after", Flow(merged, None, rows))
    net.finals(merged=merged_flow)
    return net.head(net.pooled(merged_flow, "mean"))


@topology("regions")
def funnel(net: Net, inputs: Inputs) -> Tensor:
    """Queries are means of two tokens, keys are all of them."""
    x = net.block("before", net.born(inputs, "regions"))
    net.finals(regions=x)
    queries = halved(net, x, "pooled", "regions")
    return net.head(net.pooled(net.block("after", queries, x), "mean"))


@topology("words", "regions")
def double_stream(net: Net, inputs: Inputs) -> Tensor:
    """MMDiT: two modalities with weights of their own attend jointly."""
    words, regions = net.born(inputs, "words", net.recipe.special), net.born(inputs, "regions")
    net.joint("words", "regions")
    count = words.x.shape[1]
    for layer in range(net.recipe.depth):
        flows = [
            Flow(net.norm(f"{name}{layer}", flow.x), flow.keep, flow.rows)
            for name, flow in (("words", words), ("regions", regions))
        ]
        both = beside(*flows)
        apart = [net.projected(f"joint{layer}_{i}", flow, flow) for i, flow in enumerate(flows)]
        q, k, v = (torch.cat(parts, 1) for parts in zip(*apart, strict=True))
        heard = net.attended(f"joint{layer}", both, both, q, k, v, False)
        words = net.mlp(f"words{layer}", added(net, words, heard.part(0, count)))
        regions = net.mlp(f"regions{layer}", added(net, regions, heard.part(count, None)))
    net.finals(words=words, regions=regions)
    return net.head(net.pooled(words))


@topology("words")
def latents_and_queries(net: Net, inputs: Inputs) -> Tensor:
    """Perceiver IO: latents read the words, learned queries read the latents."""
    words = net.born(inputs, "words")
    x = net.learned("latents", 3, words.x.shape[0])
    asking = net.learned("asking", 2, words.x.shape[0])
    for layer in range(net.recipe.depth):
        x = net.block(f"read{layer}", x, words)
        x = net.block(f"own{layer}", x)
    asking = net.block("ask", asking, x)
    net.finals(latents=x, asking=asking)
    return net.head(net.pooled(asking, "mean"))


@topology("regions")
def deep_tokens(net: Net, inputs: Inputs) -> Tensor:
    """Mixture of depths with a mask: tokens of low scores are left as they are."""
    x = net.block("first", net.born(inputs, "regions"))
    score = net.linear("score", x.x, 1)
    index = score.squeeze(-1).topk(2, dim=1).indices.sort(1).values
    chosen = net.block("deep", x.picked(index))
    wide = index[..., None].expand(-1, -1, x.x.shape[-1])
    update = torch.zeros_like(x.x).scatter(1, wide, chosen.x - x.picked(index).x)
    rows = None
    if net.ledger is not None:
        rows = [list(of) for of in x.rows]
        for b, places in enumerate(index.tolist()):
            for i, place in enumerate(places):
                rows[b][place] = chosen.rows[b][i]
    x = Flow(x.x + update, x.keep, rows)
    net.finals(regions=x)
    return net.head(net.pooled(x))


@topology("words", "regions")
def two_exits(net: Net, inputs: Inputs) -> Tensor:
    """Words are read after the first layer and after the second, regions at the end."""
    words, regions = net.born(inputs, "words", net.recipe.special), net.born(inputs, "regions")
    first = net.block("first", words, regions)
    regions = net.block("regions", regions, first)
    second = net.block("second", first, regions)
    x = added(net, first, second)
    net.finals(words=x, regions=regions)
    return net.head(net.pooled(x), net.pooled(regions, "mean"))
