"""A model with something else between two attentions, for tests that only these are found."""

from collections.abc import Callable

from torch import Tensor, nn

import fxplain
from tests.small_models import VOCABULARY, Block, seeded, words

WIDTH = 16


class Between(nn.Module):
    """Words; an attention block, `middle` on the residual stream, another block."""

    def __init__(self, middle: Callable[[], nn.Module], *, attention: bool = True) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.before, self.after = (Block() if attention else nn.Identity() for _ in range(2))
        self.middle = middle()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.before(self.words(ids))
        return self.head(self.after(x + self.middle(x))[:, 0])


def between(middle: Callable[[], nn.Module]) -> fxplain.Explanation:
    """The blocks' attentions are all that is found."""
    explanation = fxplain.explain(seeded(Between, middle), (words(2, 6),), target=1)
    modules = ["before.attention", "after.attention"]
    assert [node.module for node in explanation.graph.nodes] == modules
    assert {node.kind for node in explanation.graph.nodes} == {"self"}
    assert explanation.graph.modalities == {"ids": 6}
    return explanation
