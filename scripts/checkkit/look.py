"""A module under examination, with what the whole project knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property

from checkkit.facts import FunctionFact, is_route
from checkkit.infer import Inference
from checkkit.nodes import calls_in, dotted, last_name
from checkkit.notes import Note
from checkkit.project import Project
from checkkit.scope import Scope
from checkkit.syntax import Module

LOGGING = {
    "debug", "info", "warning", "warn", "error", "exception", "critical", "log", "print", "inc", "observe",
    "bind", "labels", "capture_exception",
}  # fmt: skip
NO_SESSIONS = (
    "redis.",
    "aio_pika.",
    "httpx.",
    "httpx2.",
    "requests.",
    "aiohttp.",
    "celery.",
    "boto3.",
    "openai.",
)
SESSIONS = {"session", "db", "db_session", "async_session", "dbsession", "sess"}


class Look:
    """What rules ask."""

    def __init__(self, module: Module, project: Project) -> None:
        self.module, self.project = module, project
        self.inference = Inference(module, project)

    def calls(self, *names: str) -> Iterator[tuple[ast.Call, Scope]]:
        """Calls of functions or methods with one of the names."""
        return self.module.calls(*names)

    def nodes(self, *kinds: type) -> Iterator[ast.AST]:
        """All nodes of some kinds."""
        for kind in kinds:
            yield from self.module.of.get(kind, ())

    def name(self, node: ast.expr | None) -> str:
        """The dotted name behind an expression, with the module's imports."""
        return self.project.canonical(self.module.resolve(node)) if node is not None else ""

    def type(self, node: ast.expr | None, scope: Scope) -> str:
        """What made the value; empty when it cannot be told."""
        return self.inference.of(node, scope)

    def receiver(self, call: ast.Call, scope: Scope) -> str:
        """The type of what a method is called on."""
        return self.type(call.func.value, scope) if isinstance(call.func, ast.Attribute) else ""

    def target(self, call: ast.Call, scope: Scope) -> str:
        """The dotted name of what is called."""
        return self.project.canonical(self.inference.target(call.func, scope))

    def callee(self, call: ast.Call, scope: Scope) -> FunctionFact | None:
        """The function of the project that is called."""
        return self.project.function(self.inference.target(call.func, scope))

    def fact(self, scope: Scope) -> FunctionFact | None:
        """What is kept of a function of this module."""
        name = f"{self.module.name}.{scope.name}" if self.module.name else scope.name
        return self.project.functions.get(name)

    def is_task(self, scope: Scope | None) -> bool:
        """Whether Celery runs this function."""
        fact = self.fact(scope) if scope else None
        return fact is not None and self.project.is_task(fact)

    def task_decorator(self, scope: Scope) -> ast.expr | None:
        """The decorator that makes a function a task."""
        for one in scope.decorators:
            name = self.module.resolve(one.func if isinstance(one, ast.Call) else one)
            if self.project.is_task_decorator(name):
                return one
        return None

    def tasks(self) -> list[tuple[Scope, ast.expr]]:
        """The Celery tasks of this module, with their decorators."""
        return self._tasks

    @cached_property
    def _tasks(self) -> list[tuple[Scope, ast.expr]]:
        functions = [s for s in self.module.scopes if s.is_function and s.decorators]
        found = [(scope, self.task_decorator(scope)) for scope in functions]
        return [(scope, decorator) for scope, decorator in found if decorator is not None]

    def is_route(self, scope: Scope | None) -> bool:
        """Whether FastAPI calls this function."""
        return scope is not None and is_route(scope)

    def is_session(self, node: ast.expr | None, scope: Scope) -> bool:
        """Whether it is a database session: by its type, else by its name."""
        made = self.type(node, scope)
        if is_session_type(made):
            return True
        if made.startswith(NO_SESSIONS):
            return False
        return dotted(node).rpartition(".")[2] in SESSIONS

    def is_redis(self, node: ast.expr | None, scope: Scope) -> bool:
        """Whether it is certain to be a Redis client."""
        made = self.type(node, scope)
        if made:
            return is_redis_type(made)
        return "redis" in dotted(node).rpartition(".")[2].lower() and self.project.uses("redis")

    def in_loop(self, node: ast.AST, scope: Scope) -> bool:
        """Whether the function repeats it."""
        for parent in self.module.above(node):
            if parent is scope.node:
                return False
            if isinstance(parent, ast.While | ast.For | ast.AsyncFor):
                return True
        return False

    def note(self, key: str, node: ast.AST, value: object = None) -> None:
        """Remember something for the rules about the whole project."""
        place = Note(self.module.shown, line_of(node), getattr(node, "col_offset", 0) + 1, value)
        self.project.notes.setdefault(key, []).append(place)

    def scope(self, node: ast.AST) -> Scope:
        """The scope a node is in."""
        return self.module.scope(node)

    def siblings(self, node: ast.AST) -> tuple[list[ast.stmt], int]:
        """The statements of the block that a node is in, and the place of its own one."""
        child = node
        for parent in self.module.above(node):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(parent, name, None)
                if isinstance(block, list) and child in block:
                    return block, block.index(child)
            child = parent
        body = self.module.tree.body
        return (body, body.index(child)) if isinstance(child, ast.stmt) and child in body else ([], 0)


def is_session_type(made: str) -> bool:
    """Whether the dotted name is that of a session, or of what gives one."""
    last = made.rpartition(".")[2]
    return last in {"AsyncSession", "Session", "async_scoped_session"} or (
        "sessionmaker" in made and made.endswith("()")
    )


def is_redis_type(made: str) -> bool:
    """Whether the dotted name is that of a Redis client."""
    return made.startswith("redis.") and ("Redis" in made or made.endswith(("from_url", "from_url()")))


def line_of(node: ast.AST) -> int:
    """The line a node begins on."""
    return getattr(node, "lineno", 1)


def is_quiet(statement: ast.stmt) -> bool:
    """Whether a statement does nothing but log, wait or go on."""
    if isinstance(statement, ast.Pass | ast.Continue):
        return True
    if isinstance(statement, ast.Expr):
        value = statement.value
        if isinstance(value, ast.Constant):
            return True
        return isinstance(value, ast.Call) and last_name(value.func) in LOGGING
    return False


def catches(handler: ast.ExceptHandler, *names: str) -> bool:
    """Whether an `except` names one of the classes; `except:` is `BaseException`."""
    if handler.type is None:
        return "BaseException" in names
    every = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(last_name(one) in names for one in every)


def ends_otherwise(body: list[ast.stmt]) -> bool:
    """Whether it raises, returns or breaks somewhere."""
    return any(isinstance(one, ast.Raise | ast.Return | ast.Break) for s in body for one in ast.walk(s))


def called_names(nodes: ast.AST | list[ast.stmt]) -> set[str]:
    """The last names of everything that is called in it."""
    return {last_name(call.func) for call in calls_in(nodes)}
