"""A module, class or function, and what its names are bound to."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from checkkit.nodes import FUNCTIONS, Function, dotted


@dataclass(eq=False)
class Scope:
    """A module, class or function, and what it holds itself. `is_function` is true of a lambda, too."""

    node: ast.Module | ast.ClassDef | Function
    parent: Scope | None
    name: str
    calls: list[ast.Call] = field(default_factory=list)
    binds: dict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))
    yields: bool = False

    def __post_init__(self) -> None:
        """What is asked most often."""
        self.is_async = isinstance(self.node, ast.AsyncFunctionDef)
        self.is_function = self.node.__class__ in FUNCTIONS

    @property
    def owner(self) -> Scope | None:
        """The class of a method."""
        parent = self.parent
        return parent if parent is not None and isinstance(parent.node, ast.ClassDef) else None

    @property
    def chain(self) -> Iterator[Scope]:
        """This scope and those around it in which names are looked up."""
        scope: Scope | None = self
        while scope is not None:
            if scope is self or not isinstance(scope.node, ast.ClassDef):
                yield scope
            scope = scope.parent

    @cached_property
    def parameters(self) -> dict[str, ast.expr | None]:
        """Parameters with their annotations."""
        if not self.is_function:
            return {}
        assert isinstance(self.node, Function)
        a = self.node.args
        every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
        return {one.arg: one.annotation for one in every}

    @cached_property
    def locals(self) -> frozenset[str]:
        """The names that this function and those around it have of their own."""
        outer = self.parent.locals if self.parent is not None else frozenset()
        return outer | self.binds.keys() | self.parameters.keys() if self.is_function else outer

    @property
    def decorators(self) -> list[ast.expr]:
        """Of a function or class."""
        return getattr(self.node, "decorator_list", [])


def bind(scope: Scope, target: ast.expr, value: ast.expr) -> None:
    """Note what a name, or an attribute of `self`, is set to."""
    if isinstance(target, ast.Name):
        scope.binds[target.id].append(value)
    elif isinstance(target, ast.Attribute) and dotted(target).startswith("self.") and scope.owner:
        scope.owner.binds[dotted(target)].append(value)
    elif isinstance(target, ast.Tuple | ast.List):
        for one in target.elts:
            bind(scope, one, value)
