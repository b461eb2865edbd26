"""The service method that a worker calls, read from the project's syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass

from workerkit.errors import ServiceError, UsageError
from workerkit.lookup import Found, FoundFunction, class_of, function_of, method_of, methods
from workerkit.project import Project
from workerkit.signature import Field, check_callable, check_session, field_of, parameters, unquoted
from workerkit.source import Import

IDEMPOTENCY_KEY = "idempotency_key"


@dataclass(frozen=True)
class Service:
    """What a handler calls. `owner` is the class, empty for a plain function.

    `imports` are those of the fields' types. `takes_key` says whether there is an `idempotency_key`,
    `commits` whether its body calls a `commit`, `returns` is the annotation of what it returns, or empty.
    """

    module: str
    owner: str
    function: str
    fields: tuple[Field, ...]
    imports: frozenset[Import]
    takes_key: bool
    commits: bool = False
    returns: str = ""
    is_sync: bool = False
    session_name: str = ""
    """The session's parameter, where it can only be given by name."""
    local: frozenset[str] = frozenset()
    """The top-level names that it needs of the project."""

    @property
    def helper(self) -> str:
        """What of `core.service_session` it is called through; empty when it is called as it is."""
        return "call_sync" if self.is_sync else "joined" if self.commits else ""

    @property
    def target(self) -> str:
        """The name to import."""
        return self.owner or self.function

    @property
    def qualified(self) -> str:
        """`Class.method` or the function's name."""
        return f"{self.owner}.{self.function}" if self.owner else self.function

    @property
    def calls(self) -> str:
        """The service as `--calls` names it."""
        return f"{self.module}:{self.qualified}"


def read_service(project: Project, calls: str, given: Collection[str] | None = None) -> Service:
    """The service that `calls` names, as `package.module:Class.method` or `package.module:function`.

    Of the parameters with a default only those `given` become fields; None: all of them.

    Raises ServiceError when it is not there or cannot be called by a worker.
    """
    module_name, owner, name = split(calls)
    module = project.module(module_name)
    if module is None:
        raise ServiceError(f"--calls {calls}: no module {module_name} {hint(project, module_name)}")
    if owner:
        class_ = class_of(project, module, owner)
        found = method_of(project, class_, name)
    else:
        found = function_of(project, module, name)
    where = f"{project.shown(found.module.path)}:{found.node.lineno}: {f'{owner}.' if owner else ''}{name}"
    check_callable(found.node, where)
    is_sync = isinstance(found.node, ast.FunctionDef)
    if owner:
        check_constructor(project, class_, owner, where, sync=is_sync)
    taken = parameters(found.node)
    if not taken:
        raise ServiceError(f"{where}: its first parameter must be {'self' if owner else 'an AsyncSession'}")
    if not owner:
        check_session(found, taken[0], project, where, sync=is_sync)
    session = taken.pop(0)
    names = {parameter.argument.arg for parameter in taken}
    if unknown := set(given or ()) - names:
        raise ServiceError(f"{where}: no parameter {', '.join(sorted(unknown))}")
    payload = [
        parameter
        for parameter in taken
        if parameter.argument.arg != IDEMPOTENCY_KEY
        and (given is None or parameter.default is None or parameter.argument.arg in given)
    ]
    described = [field_of(project, found.module, parameter, where) for parameter in payload]
    fields = tuple(field for field, _ in described)
    imports = frozenset(import_ for _, needed in described for import_ in needed)
    tops = {name.partition(".")[0] for name in (module_name, *(import_.module for import_ in imports))}
    return Service(
        module_name,
        owner,
        name,
        fields,
        imports,
        takes_key=IDEMPOTENCY_KEY in names,
        commits=commits(project, found),
        returns="" if found.node.returns is None else ast.unparse(unquoted(found.node.returns, where)),
        is_sync=is_sync,
        session_name=session.argument.arg if session.keyword_only else "",
        local=frozenset(top for top in tops if project.module(top) or (project.import_root / top).is_dir()),
    )


def commits(project: Project, found: FoundFunction) -> bool:
    """Whether the function, its module, or a module of the project that these import calls `commit`. Helpers
    that make the sessions do so rightly; where they are imported, the answer errs on the safe side.
    """
    seen: set[str] = set()
    waiting = [found.module]
    while waiting:
        module = waiting.pop()
        if module.name in seen:
            continue
        seen.add(module.name)
        if calls_commit(module.tree):
            return True
        names = {name for i in module.imports for name in (i.module, f"{i.module}.{i.name}") if i.module}
        near = {name for name in names - seen if not is_foundation(name)}
        waiting += [inner for name in sorted(near) if (inner := project.module(name)) is not None]
    return False


def is_foundation(name: str) -> bool:
    """Whether a module makes sessions or is a route, by its name: services are called there, not written."""
    return bool({"database", "db", "session", "deps", "dependencies"} & {name.rpartition(".")[2]})


def calls_commit(tree: ast.AST) -> bool:
    """Whether something is committed somewhere in it."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(func, ast.Attribute) and func.attr == "commit" for func in called)


def split(calls: str) -> tuple[str, str, str]:
    """Module, class (or empty) and function of `--calls`. Raises UsageError."""
    match = re.fullmatch(r"([A-Za-z_][\w.]*):(?:([A-Za-z_]\w*)\.)?([A-Za-z_]\w*)", calls)
    if match is None:
        raise UsageError(f"--calls {calls}: write package.module:Class.method or package.module:function")
    return match[1], match[2] or "", match[3]


def hint(project: Project, module_name: str) -> str:
    """Where was looked, and what may have been meant."""
    rest = module_name.partition(".")[2]
    other = f"{project.source}.{rest}" if project.source else rest
    question = f"; did you mean {other}?" if rest and project.module(other) else ""
    return f"in {project.import_root}{question}"


def check_constructor(project: Project, class_: Found, owner: str, method: str, *, sync: bool) -> None:
    """Raises ServiceError unless the class is made from a session, of the kind that its method needs, and
    nothing else.
    """
    where = f"{project.shown(class_.module.path)}: {owner}.__init__"
    found = next((found for found in methods(project, class_) if found.node.name == "__init__"), None)
    taken = parameters(found.node)[1:] if found is not None else []
    required = [parameter for parameter in taken if parameter.default is None]
    if len(required) != 1 or required[0] is not taken[0] or required[0].keyword_only:
        names = ", ".join(parameter.argument.arg for parameter in required) or "nothing"
        raise ServiceError(f"{where} must take a session and nothing else; it takes: {names}")
    assert found is not None
    check_session(found, required[0], project, method if sync else where, sync=sync)
