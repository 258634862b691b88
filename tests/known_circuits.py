"""Small transformers whose weights are written by hand, so that their circuits are known."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORDS, PLACES = 10, 8


class Heads(nn.Module):
    """Causal attention of several heads, without norm and bias."""

    def __init__(self, width: int, heads: int, size: int, *, fused: bool = True) -> None:
        super().__init__()
        self.heads, self.size, self.fused = heads, size, fused
        self.q, self.k, self.v = (nn.Linear(width, heads * size, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        else:
            later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
            mixed = (q @ k.mT).masked_fill(later, float("-inf")).softmax(-1) @ v
        return self.o(mixed.transpose(1, 2).flatten(2))

    def write(self, head: int, q: Tensor, k: Tensor, v: Tensor, o: Tensor) -> None:
        """Give a head its weights: (size, width) of each of the first three, (width, size) of `o`."""
        own = slice(head * self.size, (head + 1) * self.size)
        for layer, weight in ((self.q, q), (self.k, k), (self.v, v)):
            layer.weight[own] = weight
        self.o.weight[:, own] = o


class Stack(nn.Module):
    """Words and places, layers of heads that write to the stream, and a head; weights by hand."""

    def __init__(self, width: int, layers: int, heads: int, size: int, *, fused: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(PLACES, width)
        self.layers = nn.ModuleList(Heads(width, heads, size, fused=fused) for _ in range(layers))
        self.head = nn.Linear(width, WORDS, bias=False)
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.02, generator=noise)
            self._write()

    def _write(self) -> None:
        """Give the heads that do something their weights."""
        raise NotImplementedError

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


class Induction(Stack):
    """ "A B ... A" is continued by B: head 1 of the first layer brings each place the word before it,
    head 0 of the second looks for the word that is there now, and says what stood behind it. All other
    heads say next to nothing. The stream holds a word, the word before, and the place."""

    def __init__(self, heads: int = 3, *, fused: bool = True) -> None:
        super().__init__(2 * WORDS + PLACES, 2, heads, WORDS, fused=fused)

    def _write(self) -> None:
        width = 2 * WORDS + PLACES
        word, before, place = torch.eye(width).split([WORDS, WORDS, PLACES])
        self.words.weight.copy_(word)
        self.places.weight.copy_(place)
        behind = F.pad(place[:-1], (0, 0, 1, 0))  # a place asks for the one before it
        first, second = self.layers
        first.write(1, *(10 * F.pad(x, (0, 0, 0, 2)) for x in (place, behind)), word, before.T)
        second.write(0, 10 * word, 2 * before, word, 4 * word.T)
        self.head.weight.copy_(word)


class IndirectObject(Stack):
    """ ". A B . B . to" is continued by A, the name that is not said again (Wang et al., 2023).

    Head 1 of the first layer tells a name that it was there before, head 0 of the second brings the
    last place which name that is, and head 2 of the third looks for another name than this, and says
    it. All other heads say next to nothing. The stream holds a word, a word to avoid, the place, and
    "said again"."""

    def __init__(self, heads: int = 3, *, fused: bool = True) -> None:
        super().__init__(2 * WORDS + PLACES + 1, 3, heads, WORDS + 1, fused=fused)

    def _write(self) -> None:
        width = 2 * WORDS + PLACES + 1
        word, avoided, place, again = torch.eye(width).split([WORDS, WORDS, PLACES, 1])
        self.words.weight.copy_(word)
        self.places.weight.copy_(place)
        names, last = (place[1] + place[2])[None], place[6:7]

        def rows(x: Tensor) -> Tensor:
            return F.pad(x, (0, 0, 0, WORDS + 1 - len(x)))

        first, second, third = self.layers
        first.write(1, rows(20 * word), rows(word), rows(names), rows(again).T)
        second.write(0, rows(20 * last), rows(2 * (again - names)), rows(word), rows(avoided).T)
        asks = torch.cat([-10 * avoided, 20 * last])
        third.write(2, asks, torch.cat([word, names]), rows(word), 4 * rows(word).T)
        self.head.weight.copy_(word)


class Detector(nn.Module):
    """By how much the first word is above 4: head 0 brings its number to all places, and the second
    feed-forward layer compares. The other head and the first layer say next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 5), nn.Embedding(PLACES, 5)
        self.attention = Heads(5, 2, 1)
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 5)) for _ in range(2)
        )
        self.head = nn.Linear(5, 1, bias=False)
        with torch.no_grad():
            self._write()

    def _write(self) -> None:
        noise = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.normal_(0, 0.001, generator=noise)
        number, there, first, brought, said = torch.eye(5)
        self.words.weight.copy_(torch.arange(float(WORDS)).outer(number))
        self.places.weight.copy_(there)
        self.places.weight[0] += first
        self.attention.write(0, 10 * there, 10 * first, number, brought[:, None])
        inner, _, outer = self.mlps[1]
        inner.weight[0], inner.bias[0] = brought, -4
        outer.weight[:, 0] = said
        self.head.weight[0] = said

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        x = x + self.mlps[0](x)
        x = x + self.attention(x)
        x = x + self.mlps[1](x)
        return self.head(x)[:, -1]
