"""A module's syntax tree, walked once: scopes, calls, parents, and what a name stands for."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from checkkit.nodes import FIELDS, dotted, last_name
from checkkit.scope import Scope, bind

KEPT = frozenset(
    {
        ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.withitem, ast.Try, ast.ExceptHandler, ast.Compare,
        ast.With, ast.AsyncWith, ast.While, ast.For, ast.AsyncFor, ast.ClassDef, ast.Return, ast.If,
        ast.Import, ast.ImportFrom, ast.Expr, ast.Dict, ast.Yield,
    }
)  # fmt: skip


WALKED = frozenset({kind for kind, fields in FIELDS.items() if fields} | KEPT)


# Of constants, which are most of a large file, no parents are kept.
PARENTED = frozenset(FIELDS) - WALKED - {ast.Constant}


class Module:
    """One parsed file. `name` is dotted, `shown` the path for people."""

    def __init__(self, name: str, shown: str, text: str, tree: ast.Module, *, package: bool = False) -> None:
        self.name, self.shown, self.text, self.tree = name, shown, text, tree
        self.package = name if package else name.rpartition(".")[0]
        self.scopes: list[Scope] = []
        self.of: dict[type, list[ast.AST]] = defaultdict(list)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.awaited: set[ast.AST] = set()
        self.imports: dict[str, str] = {}
        self._resolved: dict[str, str] = {}
        self.scope_of: dict[ast.AST, Scope] = {}
        self.top = Scope(tree, None, "")
        self._walk()
        self._read_imports()

    @cached_property
    def lines(self) -> list[str]:
        """The source lines, as the parser counts them."""
        return self.text.split("\n")

    def _walk(self) -> None:
        """One pass without recursion: a hostile tree may be deep."""
        work: list[tuple[Scope, list[ast.AST]]] = [(self.top, list(self.tree.body))]
        while work:
            scope, stack = work.pop()
            self.scopes.append(scope)
            self.scope_of[scope.node] = scope
            stack.reverse()
            self._walk_scope(scope, stack, work)

    def _walk_scope(  # noqa: C901, PLR0912  # every node comes here: calls cost time
        self, scope: Scope, stack: list[ast.AST], work: list[tuple[Scope, list[ast.AST]]]
    ) -> None:
        parents, of, fields, kept = self.parents, self.of, FIELDS, KEPT
        walked, leaves = WALKED, PARENTED
        pop, push = stack.pop, stack.append
        while stack:
            node = pop()
            cls = node.__class__
            if cls is ast.Call:
                scope.calls.append(node)  # type: ignore[arg-type]  # mypy does not narrow by __class__
            elif cls in kept:
                of[cls].append(node)
                if cls in NOTED:
                    self._note(node, scope)
            elif cls is ast.Await:
                self.awaited.add(node.value)  # type: ignore[attr-defined]  # as above
            if cls in SCOPES:
                work.append(self._enter(node, scope, push))
                continue
            for name in fields[cls]:
                child: Any = getattr(node, name, None)
                kind = child.__class__
                if kind is list:
                    for one in reversed(child):
                        kind = one.__class__
                        if kind in walked:
                            parents[one] = node
                            push(one)
                        elif kind in leaves:
                            parents[one] = node
                elif kind in walked:
                    parents[child] = node
                    push(child)
                elif kind in leaves:
                    parents[child] = node

    def _enter(self, node: ast.AST, scope: Scope, push: object) -> tuple[Scope, list[ast.AST]]:
        """A scope to walk later; what is evaluated outside of it goes to the present one."""
        assert callable(push)
        if isinstance(node, ast.Lambda):
            self.parents[node.body] = node
            return Scope(node, scope, f"{scope.name}.<lambda>"), [node.body]
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        outside: list[ast.AST] = list(node.decorator_list)
        if isinstance(node, ast.ClassDef):
            outside += [*node.bases, *node.keywords]
        else:
            outside += [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
            annotations = [arg.annotation for arg in (*node.args.args, *node.args.kwonlyargs)]
            outside += [a for a in annotations if isinstance(a, ast.Subscript)]
        for one in outside:
            self.parents[one] = node
            push(one)
        for one in node.body:
            self.parents[one] = node
        name = f"{scope.name}.{node.name}" if scope.name else node.name
        return Scope(node, scope, name), list(node.body)

    def _note(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                bind(scope, target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            if node.value is not None:
                bind(scope, node.target, node.value)
            elif isinstance(node, ast.AnnAssign):
                bind(scope, node.target, ast.Call(func=node.annotation, args=[], keywords=[]))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            bind(scope, node.optional_vars, node.context_expr)
        elif isinstance(node, ast.For | ast.AsyncFor):
            bind(scope, node.target, node.iter)
        elif isinstance(node, ast.Yield):
            scope.yields = True

    def _read_imports(self) -> None:
        for node in self.of[ast.Import]:
            assert isinstance(node, ast.Import)
            for one in node.names:
                self.imports[one.asname or one.name.partition(".")[0]] = (
                    one.name if one.asname else one.name.partition(".")[0]
                )
        for node in self.of[ast.ImportFrom]:
            assert isinstance(node, ast.ImportFrom)
            base = self._import_base(node)
            for one in node.names:
                self.imports[one.asname or one.name] = f"{base}.{one.name}" if base else one.name

    def _import_base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    @cached_property
    def defined(self) -> set[str]:
        """Names that the module itself defines at its top."""
        functions = {s.node.name for s in self.scopes if s.parent is self.top and hasattr(s.node, "name")}
        return functions | set(self.top.binds)

    def resolve(self, node: ast.expr | None) -> str:
        """The dotted name of what `node` names, with its imports; empty when it is no name."""
        name = dotted(node)
        return self.resolve_name(name) if name else ""

    def resolve_name(self, name: str) -> str:
        """The same of a dotted name."""
        found = self._resolved.get(name)
        if found is None:
            root, dot, rest = name.partition(".")
            if root in self.imports:
                found = self.imports[root] + dot + rest
            else:
                found = f"{self.name}.{name}" if root in self.defined and self.name else name
            self._resolved[name] = found
        return found

    def function(self, node: ast.AST) -> Scope | None:
        """The function whose body `node` is in."""
        scope: Scope | None = self.scope(node)
        while scope is not None and not scope.is_function:
            scope = scope.parent
        return scope

    def scope(self, node: ast.AST) -> Scope:
        """The scope that `node` is in."""
        for parent in self.above(node):
            if parent in self.scope_of:
                return self.scope_of[parent]
        return self.top

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The parents of a node, the nearest first."""
        current = self.parents.get(node)
        while current is not None:
            yield current
            current = self.parents.get(current)

    @cached_property
    def by_name(self) -> dict[str, list[tuple[ast.Call, Scope]]]:
        """Calls by the last part of what they call."""
        found: dict[str, list[tuple[ast.Call, Scope]]] = defaultdict(list)
        for scope in self.scopes:
            for call in scope.calls:
                found[last_name(call.func)].append((call, scope))
        return found

    def calls(self, *names: str) -> Iterator[tuple[ast.Call, Scope]]:
        """Calls of functions or methods with one of the names."""
        for name in names:
            yield from self.by_name.get(name, ())


NOTED = frozenset({ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.withitem, ast.For, ast.AsyncFor, ast.Yield})


SCOPES = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef})
