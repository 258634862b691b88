"""Einsums taken apart: the parts compute the same, at the exported sizes and at others."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from fxplain.capture.einsum import take_einsums_apart

SIZES = {letter: 2 + i % 4 for i, letter in enumerate("abcdhijknqstw")}
HIDDEN = [3, 2]  # what an ellipsis stands for

EQUATIONS = [
    "bshd,bqhd->bhsq",  # scores
    "bhsq,bqhd->bshd",  # weights times values
    "bhsq,bqhd,hdw->bsw",  # and the output projection
    "bsw,whd->bshd",
    "whd,bsw->bshd",
    "...i,ij->...j",
    "i...,ij->j...",
    "b...d,b...d->b...",
    "bii->b",
    "iij,jk->ik",
    "ij->",
    "i,j->ij",
    "i,i->",
    "bij, bjk",
    "bthd,bshd,bt->bhs",
    "bsd,d->bs",
]


class Einsum(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.einsum(self.equation, *operands)


def operands(equation: str, more: int) -> tuple[Tensor, ...]:
    terms = equation.partition("->")[0].replace(" ", "").replace("...", "*").split(",")
    shapes = [[n for x in t for n in (HIDDEN if x == "*" else [SIZES[x] + more])] for t in terms]
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_parts_are_the_whole(equation: str) -> None:
    given = operands(equation, 0)
    free = tuple(dict.fromkeys(range(x.dim()), Dim.AUTO) for x in given)
    program = torch.export.export(Einsum(equation), given, dynamic_shapes={"operands": free})
    module = program.graph_module
    take_einsums_apart(module.graph)
    module.graph.lint()
    module.recompile()
    assert "einsum" not in module.code
    for more in (0, 1):
        given = operands(equation, more)
        (got,) = module(*given)
        torch.testing.assert_close(got, torch.einsum(equation, *given))


@pytest.mark.parametrize("equation", ["bij,bij->b", "bij,bij->bi", "bij,bkj->bik"])
def test_an_axis_of_one_stands_for_all(equation: str) -> None:
    given = torch.randn(2, 1, 4), torch.randn(2, 3, 4)
    module = torch.export.export(Einsum(equation), given).graph_module
    take_einsums_apart(module.graph)
    module.recompile()
    torch.testing.assert_close(module(*given)[0], torch.einsum(equation, *given))


NAMED = {
    "inner": (torch.inner, [(2, 3, 5), (4, 5)]),
    "tensordot": (lambda x, y: torch.tensordot(x, y, ([1, 2], [-1, 0])), [(2, 3, 5), (5, 4, 3)]),
    "outer": (torch.outer, [(2,), (3,)]),
    "multi_dot": (lambda *x: torch.linalg.multi_dot(x), [(2, 3), (3, 4), (4, 5)]),
    "bilinear": (F.bilinear, [(2, 3, 5), (2, 3, 4), (6, 5, 4), (6,)]),
    "bilinear without a bias": (F.bilinear, [(2, 5), (2, 4), (6, 5, 4)]),
}


class Named(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *operands: Tensor) -> Tensor:
        return NAMED[self.name][0](*operands)


@pytest.mark.parametrize("name", NAMED)
def test_products_by_another_name_are_einsums(name: str) -> None:
    given = tuple(torch.randn(shape, dtype=torch.float64) for shape in NAMED[name][1])
    module = torch.export.export(Named(name), given).graph_module
    take_einsums_apart(module.graph)
    module.graph.lint()
    module.recompile()
    assert name.split()[0] not in module.code
    torch.testing.assert_close(module(*given)[0], NAMED[name][0](*given))
