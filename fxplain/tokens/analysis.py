"""The state of the token analysis: what the rules of operations may ask, and what they note."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, module_path, operation_name
from fxplain.tokens.book import TokenBook
from fxplain.tokens.channels import channel_axis
from fxplain.tokens.conditions import Conditions
from fxplain.tokens.elements import Elements
from fxplain.tokens.fields import Fields
from fxplain.tokens.joining import Joiner
from fxplain.tokens.kinds import Kind
from fxplain.tokens.known import Known
from fxplain.tokens.learned import LearnedTokens
from fxplain.tokens.quantised import dequantised
from fxplain.tokens.tag import Level, Tag, Tags
from fxplain.tokens.updates import Update
from fxplain.tokens.values import Values, content_inputs
from fxplain.tokens.versions import Scaling, Versions

__all__ = ["Analysis", "Tagged"]

Tagged = Any
"""Tags of a node: `Tags`, or a list of them for a node with several outputs."""


class Analysis:
    """The state of one walk; the rules of operations (`fxplain.tokens.op_table`) work on it."""

    def __init__(
        self,
        capture: Capture,
        model: nn.Module,
        inputs: ModelInputs,
        kind_of: Callable[[fx.Node], Kind],
        known: Known | None = None,
    ) -> None:
        self.capture = capture
        self.values = Values(capture, capture.bind(model, inputs), inputs.leaves)
        placed = [
            (axis, leaf.shape[axis])
            for axis, leaf in zip(inputs.batch_axes, inputs.leaves, strict=False)
            if axis is not None
        ]
        self.book = TokenBook(
            inputs.batch_size, {axis for axis, _ in placed}, {size for _, size in placed}
        )
        self.elements = Elements(capture, self.values, inputs, self.origins, kind_of)
        self.versions = Versions()
        self.known = Known() if known is None else known
        self.conditions = Conditions(self.book, self.versions, self.known)
        self.learned = LearnedTokens(self.book, self.known)
        self.fields = Fields(self.book, self.versions, self.known)
        self.joiner = Joiner(self.book, self.versions, self.conditions, self.learned)
        self.updates: list[Update] = []
        self.warnings: dict[str, None] = {}
        self.softmaxes: dict[fx.Node, str | None] = {}
        self._tags: dict[fx.Node, Tagged] = {}
        self._mixing: set[str] = set()
        self._ranks = {slot.name: i for i, slot in enumerate(capture.inputs.values())}
        self._origins: dict[fx.Node, frozenset[str]] = {}
        self._routes: dict[tuple[str, torch.Size], list[tuple[Tensor, Tensor | None, Tag]]] = {}
        self._lost: set[fx.Node] = set()
        self._dequantised = dequantised(capture)
        self._scalings: dict[Hashable, list[tuple[Tensor, int]]] = {}

    def note(self, node: fx.Node, tags: Tagged) -> None:
        """Remember what an operation's result holds, or that it lost what it was computed from."""
        if tags:
            self._tags[node] = tags
        elif self._loses_tokens(node):
            self._lost.add(node)

    def seen(self) -> Tensor:
        """Every (token, version) that a value holds, in distinct packed entries."""
        tags = [t for tagged in self._tags.values() for t in _flat(tagged)]
        distinct = {
            (tag.ids.data_ptr(), tuple(tag.ids.shape), tag.ids.stride()): tag.ids
            for tag in tags
            if tag.level >= Level.PARAMETER_TOKEN
        }
        found = [ids.reshape(-1) for ids in distinct.values()]
        every = torch.cat(found).unique() if found else torch.empty(0, dtype=torch.int64)
        return every[every >= 0]

    def carries_tokens(self, node: fx.Node) -> bool:
        """Integers and booleans carry no tags, so a mask never glues two streams together."""
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            return value.dtype.is_floating_point or value.dtype.is_complex
        return isinstance(value, (tuple, list)) or value is None

    def _loses_tokens(self, node: fx.Node) -> bool:
        """Whether a value of no token was computed from tokens."""
        return any(
            n in self._lost or any(t.level > Level.RAW_INPUT for t in self.tags(n))
            for n in content_inputs(node)
        )

    def all_tags(self) -> dict[fx.Node, Tags]:
        """The tags of every node with one output."""
        return {node: tags for node, tags in self._tags.items() if isinstance(tags, tuple)}

    # -- what the table asks for ------------------------------------------------------------------

    def tags(self, argument: Any) -> Tags:
        """The tags of an argument (none for numbers, integers, masks)."""
        if not isinstance(argument, fx.Node):
            return ()
        if argument not in self._tags and argument.op in ("placeholder", "get_attr"):
            self._tags[argument] = self._source(argument)
        tags = self._tags.get(argument, ())
        return tags if isinstance(tags, tuple) else ()

    def tags_of_item(self, node: fx.Node, index: int) -> Tags:
        """The tags of one output of a node with several."""
        tags = self._tags.get(node, ())
        return tags[index] if isinstance(tags, list) and index < len(tags) else ()

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The concrete shape of a node."""
        return self.values.shape(node)

    def value(self, argument: Any) -> Any:
        """The concrete value of an argument (an index, a size, a mask)."""
        return self.values.concrete(argument)

    def is_parameter(self, node: Any) -> bool:
        """Whether `node` is a weight, possibly transposed or cast, or made of packed integers."""
        while isinstance(node, fx.Node):
            if node in self._dequantised:
                return True
            if node.op == "placeholder":
                slot = self.capture.state.get(node.name)
                return slot is not None
            if operation_name(node) not in _STILL_A_WEIGHT and node.target is not getitem:
                return False
            node = node.all_input_nodes[0]
        return False

    def is_lost(self, node: fx.Node) -> bool:
        """Whether a value was computed from tokens that it is not known to hold."""
        return node in self._lost

    def scaling(self, factor: Hashable, ids: Tensor, made: Scaling) -> int:
        """The index of a scaling: one for the same rows and the same factor, however often."""
        known = self._scalings.setdefault(factor, [])
        for rows, index in known:
            if torch.equal(rows, ids):
                return index
        self.versions.scalings.append(made)
        known.append((ids, len(self.versions.scalings) - 1))
        return known[-1][1]

    def known_route(self, node: fx.Node, groups: Tensor, keep: Tensor | None) -> Tag | None:
        """What such an operation made of the same tokens in equal shares (for keys, and for values)."""
        for other, kept, made in self._routes.get((operation_name(node), groups.shape), ()):
            same = (keep is None) == (kept is None) and torch.equal(groups, other)
            if same and (keep is None or kept is None or torch.equal(keep, kept)):
                return made
        return None

    def note_route(self, node: fx.Node, groups: Tensor, keep: Tensor | None, made: Tag) -> None:
        """Remember what was made of tokens in equal shares."""
        known = self._routes.setdefault((operation_name(node), groups.shape), [])
        known.append((groups, keep, made))

    def origins(self, node: fx.Node) -> frozenset[str]:
        """The graph inputs that `node` depends on."""
        return self._origins.get(node, frozenset())

    def first_origin(self, node: fx.Node) -> tuple[str, int] | None:
        """The origin that comes first in the forward signature, with its rank."""
        names = self.origins(node)
        if not names:
            return None
        name = min(names, key=self._ranks.__getitem__)
        return name, self._ranks[name]

    def warn(self, message: str) -> None:
        """Tell the user where the analysis is unsure (once)."""
        self.warnings[message] = None

    def warn_of_mixing(self, node: fx.Node) -> None:
        """Tell the user, once for a module, that tokens are mixed by no attention or fixed weights."""
        module = module_path(node)
        if module not in self._mixing:
            self._mixing.add(module)
            self.warn(
                f"{node.target} in {module or 'the model'} mixes tokens without attention: "
                f"what it carries from token to token is not in the explanation"
            )

    # -- sources ----------------------------------------------------------------------------------

    def note_origins(self, node: fx.Node) -> None:
        """Remember the graph inputs that a node depends on."""
        if node.op == "placeholder":
            slot = self.capture.inputs.get(node.name)
            self._origins[node] = frozenset({slot.name}) if slot else frozenset()
        elif not isinstance(node.meta.get("val", 0), (int, torch.SymInt)):  # a size is no content
            self._origins[node] = frozenset().union(
                *(self._origins.get(n, frozenset()) for n in content_inputs(node))
            )

    def _source(self, node: fx.Node) -> Tags:
        slot = self.capture.inputs.get(node.name)
        if slot is not None:
            return self._raw_input(node, slot.name) if slot.dtype.is_floating_point else ()
        state = self.capture.state.get(node.name)
        if state is None or (state.kind != "parameter" and node not in self.known.standing):
            return ()
        return self.rows_born(node, state.path, state.kind)

    def rows_born(self, node: fx.Node, name: str, kind: str) -> Tags:
        """The rows of what is the model's own: they are tokens once weights have mapped them."""
        shape = self.shape(node)
        if not shape:
            return ()
        ids = self.book.add(
            "parameter" if kind == "parameter" else "constant",
            name,
            shape[:-1],
            module=name,
            node=node,
            samples=None if self.book.batch_size == 1 else torch.tensor(-1),
        )
        return (Tag(ids.unsqueeze(-1), Level.PARAMETER),)

    def untouched(self, node: fx.Node) -> Tags:
        """Tokens in waiting of a value that was computed from integers of an input alone.

        Pixels that are given as bytes, a time step's sines: the first weights that touch it make
        tokens, as they do of a float input.
        """
        origin = self.first_origin(node)
        if origin is None or self.is_lost(node):
            return ()
        return self._raw_input(node, origin[0])

    def _raw_input(self, node: fx.Node, name: str) -> Tags:
        """Tokens in waiting: a position of the input becomes a token when weights first touch it."""
        shape = self.shape(node)
        channel = channel_axis(node, self.shape)
        lead = [1 if axis == channel else size for axis, size in enumerate(shape)]
        elements = until = self.elements.of(node)
        if channel is not None and elements is not None:
            elements, until = (elements.narrow(channel, i, 1) for i in (0, shape[channel] - 1))
        ids = self.book.add(
            "input",
            name,
            lead,
            rank=self._ranks[name],
            node=node,
            samples=self.elements.samples(elements),
            elements=elements,
            until=until,
        )
        return (self.born(ids, Level.RAW_INPUT),)

    def born(self, ids: Tensor, level: Level = Level.TOKEN) -> Tag:
        """The tag of tokens that the book has just noted."""
        return self.conditions.labelled(
            Tag(ids, level, births=frozenset({len(self.book.births) - 1}))
        )


def _flat(tagged: Tagged) -> Iterator[Tag]:
    """The tags of a node with one output or several."""
    for each in tagged:
        if isinstance(each, Tag):
            yield each
        else:
            yield from each


_STILL_A_WEIGHT = frozenset(
    [
        "t",
        "transpose",
        "permute",
        "view",
        "reshape",
        "_unsafe_view",
        "flatten",
        "unflatten",
        "to",
        "_to_copy",
        "detach",
        "clone",
        "contiguous",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "narrow",
        "unbind",
        "chunk",
        "split",
        "split_with_sizes",
        "movedim",
        "alias",
        "numpy_T",
        "mT",
        "pad",
        "constant_pad_nd",
        "_weight_norm",
    ]
)
