"""What must hold of a graph before it can run. Every error names the node and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .commands import END, START
from .errors import GraphValidationError
from .nodes import Node
from .topology import Branch, Join, suggestion

_FORBIDDEN = frozenset(":#|")


def check_name(name: object) -> str:
    """A node's name, if it can be one. Raises `GraphValidationError`.

    Task paths, join keys and listings are written with `:`, `#` and `|`, so names do not have them.
    """
    if not isinstance(name, str) or not name:
        raise GraphValidationError(f"{name!r} is no name for a node; give a text that is not empty")
    if name.startswith("__") and name.endswith("__"):
        raise GraphValidationError(f"the node name {name!r} is reserved; choose one without the underscores", node=name)
    bad = sorted({char for char in name if char in _FORBIDDEN or not char.isprintable()})
    if bad:
        raise GraphValidationError(
            f"the node name {name!r} has {', '.join(map(repr, bad))}; use neither ':', '#', '|' nor control characters",
            node=name,
        )
    return name


def check_known(target: object, nodes: Iterable[str], where: str) -> None:
    """Raise `GraphValidationError` unless `target` is one of the nodes; `where` says who names it."""
    nodes = tuple(nodes)
    if target not in nodes:
        raise GraphValidationError(
            f"{where} names {target!r}, which is no node{suggestion(target, nodes)}; add it with add_node, or use one "
            f"of {', '.join(map(repr, nodes)) or 'none so far'}",
            node=str(target),
        )


class Ways:
    """The ways through a graph: its nodes, plain edges, joins and conditional edges."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        edges: Mapping[str, Sequence[str]],
        joins: Sequence[Join],
        branches: Mapping[str, Sequence[Branch]],
    ) -> None:
        self.nodes = nodes
        self.edges = edges
        self.joins = joins
        self.branches = branches

    def check(self) -> None:
        """Raise `GraphValidationError` for the first thing that is wrong."""
        if not self.nodes:
            raise GraphValidationError("the graph has no nodes; add one with add_node(name, function)")
        self._check_edges()
        self._check_branches()
        self._check_destinations()
        if not self.edges.get(START) and not self.branches.get(START):
            first = next(iter(self.nodes))
            raise GraphValidationError(f"the graph has no entry; say where it starts: add_edge(START, {first!r})")
        self._check_ways_out()
        self._check_ways_in()

    def _check_edges(self) -> None:
        for source, ends in self.edges.items():
            for end in ends:
                where = f"the edge {source!r} -> {end!r}"
                if source != START:
                    check_known(source, self.nodes, where)
                if end != END:
                    check_known(end, self.nodes, where)
        for join in self.joins:
            where = f"the edge {list(join.starts)!r} -> {join.end!r}"
            for start in join.starts:
                check_known(start, self.nodes, where)
            if join.end != END:
                check_known(join.end, self.nodes, where)

    def _check_branches(self) -> None:
        for source, branches in self.branches.items():
            for branch in branches:
                where = f"the conditional edge {branch.name!r} of {source!r}"
                if source != START:
                    check_known(source, self.nodes, where)
                for target in (branch.mapping or {}).values():
                    if target != END:
                        check_known(target, self.nodes, where)

    def _check_destinations(self) -> None:
        for node in self.nodes.values():
            for target in node.destinations:
                if target != END:
                    check_known(
                        target, self.nodes, f"node {node.name!r} (its Command[...] annotation or destinations=)"
                    )

    def _check_ways_out(self) -> None:
        joined = {start for join in self.joins for start in join.starts}
        for node in self.nodes.values():
            ways = self.edges.get(node.name) or self.branches.get(node.name) or node.destinations or node.routes
            if not ways and node.name not in joined:
                raise GraphValidationError(
                    f"node {node.name!r} has no way out; add_edge({node.name!r}, END) if it is a last one, or, if it "
                    "returns a Command, name where that leads: -> Command[Literal[...]], or add_node(..., "
                    "destinations=(...))",
                    node=node.name,
                )

    def _check_ways_in(self) -> None:
        reached = self._reached()
        for name in self.nodes:
            if name not in reached:
                raise GraphValidationError(
                    f"node {name!r} has no way in: nothing leads to it from START; add_edge(..., {name!r})",
                    node=name,
                )

    def _reached(self) -> set[str]:
        """The nodes to which some way leads from START. Where a way may lead anywhere, all of them."""
        reached: set[str] = set()
        ahead = [START]
        while ahead:
            name = ahead.pop()
            if self._leads_anywhere(name):
                return set(self.nodes)
            for target in self._targets(name):
                if target != END and target not in reached:
                    reached.add(target)
                    ahead.append(target)
        return reached

    def _targets(self, name: str) -> Iterable[str]:
        yield from self.edges.get(name, ())
        yield from (join.end for join in self.joins if name in join.starts)
        for branch in self.branches.get(name, ()):
            yield from (branch.mapping or {}).values()
        if name in self.nodes:
            yield from self.nodes[name].destinations

    def _leads_anywhere(self, name: str) -> bool:
        open_branch = any(branch.mapping is None for branch in self.branches.get(name, ()))
        return open_branch or (name in self.nodes and self.nodes[name].routes)
