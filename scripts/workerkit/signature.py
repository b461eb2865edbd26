"""The parameters of a service method, as the fields of a message's payload."""

from __future__ import annotations

import ast
import builtins
import keyword
from collections.abc import Iterator
from dataclasses import dataclass

from workerkit.errors import ServiceError
from workerkit.lookup import Found, FoundFunction, resolve
from workerkit.project import Project
from workerkit.source import Function, Import, Module

SESSION_NAMES = {"session", "db", "db_session", "async_session"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function; `default` is None when it is required."""

    argument: ast.arg
    default: ast.expr | None
    positional_only: bool = False
    keyword_only: bool = False


@dataclass(frozen=True)
class Field:
    """A field of the payload. `default` is source text, empty without one."""

    name: str
    annotation: str
    default: str = ""
    positional: bool = False


def parameters(node: Function) -> list[Parameter]:
    """All parameters but *args and **kwargs, in the order of the signature."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    found = [
        Parameter(argument, default, index < len(arguments.posonlyargs))
        for index, (argument, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    by_name = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found + [Parameter(argument, default, keyword_only=True) for argument, default in by_name]


def check_callable(node: Function, where: str) -> None:
    """Raises ServiceError for what a worker cannot await with the fields of a message."""
    decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}
    if special := decorators & {"staticmethod", "classmethod", "property", "cached_property", "overload"}:
        raise ServiceError(f"{where} is a {special.pop()}; a worker calls a method of an instance")
    if any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
        raise ServiceError(f"{where} is a generator; a worker awaits its result")
    for star, argument in (("*", node.args.vararg), ("**", node.args.kwarg)):
        if argument is not None:
            raise ServiceError(f"{where} takes {star}{argument.arg}; a payload needs named fields")


def check_session(
    found: FoundFunction, parameter: Parameter, project: Project, where: str, *, sync: bool
) -> None:
    """Raises ServiceError unless the parameter is a session, by its annotation or else by its name, and of
    the kind that a `def` (`sync`) or an `async def` can use.
    """
    argument = parameter.argument
    wanted = "Session" if sync else "AsyncSession"
    if argument.annotation is None:
        if argument.arg not in SESSION_NAMES:
            raise ServiceError(f"{where}: annotate {argument.arg}; an {wanted} is expected there")
        return
    names = set(names_in(project, found.module, unquoted(argument.annotation, where)))
    if any("AsyncSession" in name for name in names):
        if sync:
            raise ServiceError(
                f"{where} is a `def`, and an AsyncSession has to be awaited: make it `async def`, or let it "
                "take a Session"
            )
    elif not (sync and any(name.endswith("Session") for name in names)):
        raise ServiceError(
            f"{where}: {argument.arg} is a {ast.unparse(argument.annotation)}; a worker has an AsyncSession "
            "to give, or a Session to what is a `def` throughout"
        )


def names_in(project: Project, module: Module, annotation: ast.expr) -> Iterator[str]:
    """The names in an annotation; those of the project that stand for another type, with its names."""
    for node in ast.walk(annotation):
        name = getattr(node, "id", getattr(node, "attr", ""))
        yield name
        found = resolve(project, module, name) if isinstance(node, ast.Name) else None
        value = getattr(found.node, "value", None) if found is not None else None
        if isinstance(value, ast.Subscript):  # SessionDep = Annotated[Session, Depends(get_db)]
            yield from (getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(value.slice))


def field_of(project: Project, module: Module, parameter: Parameter, where: str) -> tuple[Field, set[Import]]:
    """The payload's field for a parameter, and the imports that it needs. Raises ServiceError."""
    name, annotation = parameter.argument.arg, parameter.argument.annotation
    if annotation is None:
        raise ServiceError(f"{where}: parameter {name} has no type hint, so its payload field has no type")
    if name.startswith(("_", "model_")):
        raise ServiceError(f"{where}: parameter {name}: pydantic keeps names like this for itself")
    type_ = unquoted(annotation, f"{where}: parameter {name}")
    needed = set(imports_of(project, module, type_, f"{where}: parameter {name}"))
    default = ""
    if parameter.default is not None:
        default = ast.unparse(parameter.default)
        needed |= set(imports_of(project, module, parameter.default, f"{where}: default of {name}"))
        if name in {import_.bound for import_ in needed}:
            raise ServiceError(f"{where}: parameter {name} with a default hides the type {name}")
    return Field(name, ast.unparse(type_), default, parameter.positional_only), needed


class Unquote(ast.NodeTransformer):
    """Turns types in quotes into types; texts of Literal, and what Annotated adds, stay texts."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        of = getattr(node.value, "id", getattr(node.value, "attr", ""))
        if of == "Annotated" and isinstance(node.slice, ast.Tuple):
            node.slice.elts[0] = self.visit(node.slice.elts[0])
            return node
        return node if of == "Literal" else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node


def unquoted(annotation: ast.expr, where: str) -> ast.expr:
    """A copy of the annotation with types in quotes taken out of them. Raises ServiceError."""
    try:
        result = Unquote().visit(ast.parse(ast.unparse(annotation), mode="eval").body)
    except SyntaxError as error:
        raise ServiceError(f"{where}: {ast.unparse(annotation)} is no type hint") from error
    assert isinstance(result, ast.expr)
    return result


def imports_of(project: Project, module: Module, expression: ast.expr, where: str) -> Iterator[Import]:
    """Imports that make the expression mean in another module what it means in `module`."""
    for node in ast.walk(expression):
        if not isinstance(node, ast.Name) or node.id in vars(builtins):
            continue
        import_ = module.imported(node.id)
        if import_ is None and node.id not in module.top_level:
            raise ServiceError(f"{where}: {node.id} is not defined in {project.shown(module.path)}")
        check_portable(project, module, node.id, where)
        yield import_ or Import(module.name, node.id)


def check_portable(project: Project, module: Module, name: str, where: str) -> None:
    """Raises ServiceError for a type that no message can carry."""
    found = resolve(project, module, name)
    if found is not None and is_table(found):
        raise ServiceError(
            f"{where}: {name} is a database model, which no message can carry; take its id instead"
        )


def is_table(found: Found) -> bool:
    """Whether the definition is a class with a table of its own."""
    if not isinstance(found.node, ast.ClassDef):
        return False
    if any(keyword.arg == "table" for keyword in found.node.keywords):  # SQLModel
        return True
    targets = [t for node in found.node.body if isinstance(node, ast.Assign) for t in node.targets]
    return any(isinstance(target, ast.Name) and target.id == "__tablename__" for target in targets)


def is_plain_name(name: str) -> bool:
    """Whether `name` can be a module: a lower-case identifier that is no keyword."""
    return name.isidentifier() and name.islower() and name.isascii() and not keyword.iskeyword(name)
