"""What a node of a syntax tree says: its name, its constant, its arguments, and what is inside of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

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
