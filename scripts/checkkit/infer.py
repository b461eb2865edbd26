"""What an expression is: the dotted name of the class or function that made it."""

from __future__ import annotations

import ast
from typing import Protocol

from checkkit.nodes import dotted, last_name
from checkkit.scope import Scope
from checkkit.syntax import Module

DEEPEST = 6
WRAPPERS = {
    "Annotated", "Optional", "AsyncIterator", "AsyncGenerator", "Iterator", "Generator", "Final", "ClassVar",
    "AbstractAsyncContextManager", "AsyncContextManager",
}  # fmt: skip


class Globals(Protocol):
    """What is known of other modules."""

    def type_of(self, name: str) -> str:
        """What a dotted name of another module is."""
        ...


class Nothing:
    """Nothing is known yet."""

    def type_of(self, name: str) -> str:
        """What a call of `name` gives is named after it."""
        return name


NOTHING = Nothing()


class Inference:
    """Inference in one module."""

    def __init__(self, module: Module, known: Globals = NOTHING) -> None:
        self.module, self.known = module, known
        self._names: dict[tuple[Scope, str], str] = {}

    def of(self, node: ast.expr | None, scope: Scope, depth: int = 0) -> str:
        """The type of an expression; empty when it cannot be told."""
        if depth > DEEPEST or node is None:
            return ""
        if isinstance(node, ast.Await):
            node = node.value
        if isinstance(node, ast.Call):
            return self._call(node, scope, depth)
        if isinstance(node, ast.Name):
            return self._name(node.id, scope, depth)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope, depth)
        return self.annotation(node, scope, depth) if isinstance(node, ast.Subscript | ast.BinOp) else ""

    def target(self, node: ast.expr, scope: Scope, depth: int = 0) -> str:
        """The dotted name of what is called."""
        if isinstance(node, ast.Name):
            if node.id not in scope.locals:
                return self.module.resolve_name(node.id)
            made = self.of(node, scope, depth + 1)
            return f"{made}()" if made else node.id
        if not isinstance(node, ast.Attribute):
            return ""
        name = dotted(node)
        root = name.partition(".")[0]
        if root == "self":
            return self._on_self(node, scope, depth)
        if root and root not in scope.locals and root not in self.module.top.binds:
            return self.module.resolve_name(name)
        made = self.of(node.value, scope, depth + 1) or dotted(node.value)
        return f"{made}.{node.attr}" if made else f"?.{node.attr}"

    def annotation(self, node: ast.expr | None, scope: Scope, depth: int = 0) -> str:
        """The class that an annotation names, out of `Annotated`, `Optional`, `X | None` and iterators."""
        if depth > DEEPEST or node is None:
            return ""
        if isinstance(node, ast.Subscript) and last_name(node.value) in WRAPPERS:
            inner = node.slice
            first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
            return self.annotation(first, scope, depth + 1)
        if isinstance(node, ast.BinOp):
            return self.annotation(node.left, scope, depth + 1)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            return self.module.resolve(ast.Name(id=node.value, ctx=ast.Load()))
        name = self.module.resolve(node)
        alias = (
            self.module.top.binds.get(name.rpartition(".")[2]) if name.startswith(self.module.name) else None
        )
        if alias and isinstance(alias[0], ast.Subscript):
            return self.annotation(alias[0], scope, depth + 1)
        return self.known.type_of(name) if name else ""

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> str:
        name = self.target(node.func, scope, depth + 1)
        return self.known.type_of(name) if name else ""

    def _name(self, name: str, scope: Scope, depth: int) -> str:
        key = (scope, name)
        if key not in self._names:
            self._names[key] = ""  # a name that is made from itself
            self._names[key] = self._lookup(name, scope, depth)
        return self._names[key]

    def _lookup(self, name: str, scope: Scope, depth: int) -> str:
        for around in scope.chain:
            for value in around.binds.get(name, ()):
                if found := self.of(value, around, depth + 1):
                    return found
            if name in around.binds:
                return ""
            if name in around.parameters:
                return self.annotation(around.parameters[name], around, depth + 1)
        imported = self.module.imports.get(name)
        return self.known.type_of(imported) if imported else ""

    def _attribute(self, node: ast.Attribute, scope: Scope, depth: int) -> str:
        name = dotted(node)
        if name.startswith("self."):
            return self._self_attribute(name, scope, depth)
        root = name.partition(".")[0]
        if root in self.module.imports and root not in scope.locals:
            return self.known.type_of(self.module.resolve_name(name))
        made = self.of(node.value, scope, depth + 1)
        return f"{made}.{node.attr}" if made else ""

    def _self_attribute(self, name: str, scope: Scope, depth: int) -> str:
        owner = next((s.owner for s in scope.chain if s.owner), None)
        for value in owner.binds.get(name, ()) if owner else ():
            if found := self.of(value, self.module.scope(value), depth + 1):
                return found
        if owner and (values := owner.binds.get(name.removeprefix("self."))):
            return self.of(values[0], owner, depth + 1)
        return ""

    def _on_self(self, node: ast.Attribute, scope: Scope, depth: int) -> str:
        owner = next((s.owner for s in scope.chain if s.owner), None)
        if owner is None:
            return dotted(node)
        if isinstance(node.value, ast.Name):
            return f"{self.module.name}.{owner.name}.{node.attr}".removeprefix(".")
        made = self._attribute(node.value, scope, depth + 1) if isinstance(node.value, ast.Attribute) else ""
        return f"{made}.{node.attr}" if made else dotted(node)
