"""A module's syntax tree, walked once: scopes, calls, bindings, parents, and what a name stands for."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda})
# Fields that hold no nodes a rule could want.
SKIP = {
    "ctx", "op", "ops", "id", "attr", "name", "names", "module", "level", "kind", "type_comment",
    "kwd_attrs", "rest", "type_ignores", "simple", "conversion", "is_async", "asname", "lineno", "str",
}  # fmt: skip
LEAVES = (ast.Constant, ast.MatchSingleton, ast.Name, ast.Import, ast.ImportFrom, ast.alias)
FIELDS: dict[type, tuple[str, ...]] = {
    kind: () if issubclass(kind, LEAVES) else tuple(f for f in kind._fields if f not in SKIP)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
FIELDS[ast.keyword] = ("value",)
FIELDS[ast.arg] = ("annotation",)
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


def bind(scope: Scope, target: ast.expr, value: ast.expr) -> None:
    """Note what a name, or an attribute of `self`, is set to."""
    if isinstance(target, ast.Name):
        scope.binds[target.id].append(value)
    elif isinstance(target, ast.Attribute) and dotted(target).startswith("self.") and scope.owner:
        scope.owner.binds[dotted(target)].append(value)
    elif isinstance(target, ast.Tuple | ast.List):
        for one in target.elts:
            bind(scope, one, value)


def dotted(node: ast.AST | None) -> str:
    """`a.b.c` of nested attributes; empty for anything else."""
    if node.__class__ is ast.Name:
        return node.id
    parts = []
    while node.__class__ is ast.Attribute:
        parts.append(node.attr)
        node = node.value
    if node.__class__ is not ast.Name:
        return ""
    parts.append(node.id)
    parts.reverse()
    return ".".join(parts)


def last_name(node: ast.AST) -> str:
    """The name after the last dot."""
    if node.__class__ is ast.Attribute:
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a keyword argument."""
    return next((k.value for k in call.keywords if k.arg == name), None)


def is_open(call: ast.Call) -> bool:
    """Whether `*args` or `**kwargs` may hold more than can be read."""
    return any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args)


def lacks(call: ast.Call, name: str) -> bool:
    """Whether it is certain that the keyword is not given."""
    return not is_open(call) and keyword(call, name) is None


def constant(node: ast.AST | None) -> object:
    """The value of a literal, also of `60 * 60` and of `-1`; `...` for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = constant(node.operand)
        return -value if isinstance(value, int | float) else ...
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = constant(node.left), constant(node.right)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return left * right
    return ...


def number(node: ast.AST | None) -> float | None:
    """A constant number, also in `timedelta(...)` seconds."""
    value = constant(node)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(node, ast.Call) and last_name(node.func) == "timedelta":
        units = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800}
        values = [(units.get(k.arg or ""), number(k.value)) for k in node.keywords]
        if values and not node.args and all(u and v is not None for u, v in values):
            return sum((u or 0) * (v or 0) for u, v in values)
    return None


def text_of(node: ast.AST | None) -> str:
    """A constant string, or the constant start of an f-string; else empty."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    value = constant(node)
    return value if isinstance(value, str) else ""


def inside(nodes: list[ast.stmt] | list[ast.expr] | ast.AST) -> Iterator[ast.AST]:
    """Everything in the nodes, without the bodies of functions defined there."""
    first = list(nodes) if isinstance(nodes, list) else [nodes]
    stack: list[ast.AST] = list(first)
    while stack:
        node = stack.pop()
        yield node
        if node.__class__ in FUNCTIONS and node is not nodes:
            continue
        for name in FIELDS[node.__class__]:
            child = getattr(node, name, None)
            if child.__class__ is list:
                stack.extend(one for one in child if one is not None)
            elif child is not None:
                stack.append(child)


def names_in(node: ast.AST | list[ast.stmt]) -> set[str]:
    """The names that are read or written in it."""
    return {one.id for one in inside(node) if isinstance(one, ast.Name)}


def calls_in(node: ast.AST | list[ast.stmt]) -> Iterator[ast.Call]:
    """The calls in it, in no order."""
    return (one for one in inside(node) if isinstance(one, ast.Call))
