"""What is kept of every module when its tree is gone: functions, calls, classes, globals."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field

from checkkit.infer import Inference
from checkkit.nodes import constant, is_open, keyword, last_name
from checkkit.scope import Scope
from checkkit.syntax import Module

GUARDS = frozenset({ast.If, ast.IfExp, ast.With, ast.AsyncWith, ast.While, ast.For, ast.AsyncFor, ast.Match})
ROUTES = {"get", "post", "put", "patch", "delete", "api_route", "websocket", "head"}


@dataclass(slots=True, eq=False)
class CallFact:
    """A call: what is called, where, whether it is awaited. `own` when its receiver was made by the caller,
    `guarded` when a condition or a `with` is around it.
    """

    target: str
    line: int
    column: int
    awaited: bool
    own: bool
    guarded: bool


@dataclass(slots=True, eq=False)
class FunctionFact:
    """A function of the project. `decorators` are resolved names; `returns` the type of what it gives."""

    name: str
    path: str
    line: int
    is_async: bool
    yields: bool
    is_route: bool
    decorators: tuple[str, ...]
    calls: tuple[CallFact, ...]
    returns: str


@dataclass(frozen=True, slots=True)
class ClassFact:
    """A class: its bases, the annotations of its fields, and whether it is a mapped table."""

    bases: tuple[str, ...]
    fields: dict[str, str]
    is_table: bool


@dataclass(slots=True)
class ModuleFact:
    """A module: its imports, for names that it passes on, and the types of its globals. `pooled` when it
    makes an async engine with a pool as it is imported; `depends` are dependencies used in FastAPI's default
    scope.
    """

    path: str
    imports: dict[str, str]
    types: dict[str, str] = field(default_factory=dict)
    classes: dict[str, ClassFact] = field(default_factory=dict)
    functions: list[FunctionFact] = field(default_factory=list)
    pooled: bool = False
    depends: tuple[str, ...] = ()


def facts(module: Module) -> ModuleFact:
    """Everything that other modules may need to know."""
    inference = Inference(module)
    kept = ModuleFact(module.shown, module.imports, pooled=makes_pool(module), depends=depends(module))
    for name, values in module.top.binds.items():
        made = next(filter(None, (inference.of(v, module.top) for v in values)), "")
        if made:
            kept.types[name] = sys.intern(made)
    for scope in module.scopes:
        if isinstance(scope.node, ast.ClassDef):
            kept.classes[scope.name] = class_fact(module, scope)
        elif not isinstance(scope.node, ast.Module):
            kept.functions.append(function_fact(module, scope, inference))
    return kept


def depends(module: Module) -> tuple[str, ...]:
    """What `Depends(...)` names without a scope."""
    return tuple(
        module.resolve(call.args[0])
        for call, _ in module.calls("Depends")
        if call.args and not is_open(call) and keyword(call, "scope") is None
    )


def makes_pool(module: Module) -> bool:
    """Whether connections made here outlive an event loop."""
    for call, scope in module.calls("create_async_engine"):
        pool = keyword(call, "poolclass")
        if scope is module.top and not is_open(call) and (pool is None or last_name(pool) != "NullPool"):
            return True
    return False


def class_fact(module: Module, scope: Scope) -> ClassFact:
    """A class in brief."""
    assert isinstance(scope.node, ast.ClassDef)
    fields = {
        node.target.id: annotation_text(node.annotation)
        for node in scope.node.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    bases = tuple(module.resolve(base) for base in scope.node.bases)
    return ClassFact(bases, fields, "__tablename__" in scope.binds)


def annotation_text(node: ast.expr) -> str:
    """The names in an annotation, as `SecretStr | None`."""
    if isinstance(node, ast.Name):
        return node.id
    return "|".join(last_name(one) for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute))


def function_fact(module: Module, scope: Scope, inference: Inference) -> FunctionFact:
    """A function in brief."""
    node = scope.node
    assert not isinstance(node, ast.Module | ast.ClassDef)
    calls = tuple(call_fact(module, scope, call, inference) for call in scope.calls)
    prefix = f"{module.name}." if module.name else ""
    return FunctionFact(
        name=sys.intern(prefix + scope.name),
        path=module.shown,
        line=node.lineno,
        is_async=scope.is_async,
        yields=scope.yields,
        is_route=is_route(scope),
        decorators=tuple(module.resolve(d.func if isinstance(d, ast.Call) else d) for d in scope.decorators),
        calls=calls,
        returns=returned(scope, inference),
    )


def call_fact(module: Module, scope: Scope, call: ast.Call, inference: Inference) -> CallFact:
    """A call in brief."""
    own = root(call.func) in scope.binds
    target = sys.intern(inference.target(call.func, scope))
    guarded = is_guarded(module, call, scope)
    return CallFact(target, call.lineno, call.col_offset + 1, call in module.awaited, own, guarded)


def root(node: ast.expr) -> str:
    """The first name of a dotted one."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def is_guarded(module: Module, call: ast.Call, scope: Scope) -> bool:
    """Whether a condition, a lock or a loop is around a call."""
    node = module.parents.get(call)
    while node is not None and node is not scope.node:
        if node.__class__ in GUARDS:
            return True
        node = module.parents.get(node)
    return False


def is_route(scope: Scope) -> bool:
    """Whether FastAPI calls it for a request."""
    for one in scope.decorators:
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in ROUTES:
            path = constant(one.args[0]) if one.args else ...
            if isinstance(path, str) and (path.startswith("/") or not path):
                return True
    return False


def returned(scope: Scope, inference: Inference) -> str:
    """What the function gives, by its annotation, else by its `return`."""
    node = scope.node
    if isinstance(node, ast.Lambda | ast.Module | ast.ClassDef):
        return ""
    if node.returns is not None:
        return inference.annotation(node.returns, scope)
    last = node.body[-1]
    return inference.of(last.value, scope) if isinstance(last, ast.Return) else ""
