"""Groups: disjoint sets of integers, for what turns out to be of one kind."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Groups"]


class Groups:
    """Disjoint sets of integers (union-find).

    Examples
    --------
    >>> groups = Groups()
    >>> groups.unify([1, 5])
    >>> groups.find(1) == groups.find(5), groups.find(1) == groups.find(2)
    (True, False)
    """

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, member: int) -> int:
        """What stands for the set of a member; itself where it is alone."""
        parent = self._parent
        while parent.setdefault(member, member) != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def unify(self, members: Sequence[int]) -> None:
        """Make one set of those of some members."""
        for member in members[1:]:
            self._parent[self.find(member)] = self.find(members[0])
