"""A project's settings: their class, how others get them, and which variable holds the database's address."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from workerkit.look import (
    Code,
    FunctionNode,
    Place,
    assigned,
    called,
    keyword,
    last_name,
    required,
    text_value,
)

# What an address is wrapped in on its way to the engine.
WRAPPERS = {"str", "get_secret_value", "unicode_string", "render_as_string", "make_url"}


@dataclass(frozen=True)
class SettingsClass:
    """A class of settings. `fields` are those that the environment fills, with the name of a nested class's
    fields in `types`; `made` are attributes that the class computes.
    """

    place: Place
    fields: dict[str, str]
    aliases: dict[str, str]
    made: frozenset[str]
    prefix: str = ""
    delimiter: str = ""
    env_file: str = ""

    @property
    def style(self) -> str:
        """How the fields are written."""
        names = list(self.fields)
        return "UPPER_CASE" if names and sum(n.isupper() for n in names) * 2 > len(names) else "lower_case"


@dataclass(frozen=True)
class Access:
    """How others get the settings: `object` settings, `function` get_settings(), or only a `class`."""

    form: str
    place: Place
    of: SettingsClass


@dataclass(frozen=True)
class Found:
    """All settings of the project, those that others get first."""

    classes: dict[str, SettingsClass] = field(default_factory=dict)
    accesses: tuple[Access, ...] = ()
    models: dict[str, dict[str, str]] = field(default_factory=dict)


def look_at_settings(codes: Iterable[Code]) -> Found:
    """The settings in the modules."""
    codes = list(codes)
    classes = {found.place.name: found for code in codes for found in settings_classes(code)}
    if not classes:
        return Found()
    models = {
        node.name: dict(fields_of(node)) for c in codes for node in c.body if isinstance(node, ast.ClassDef)
    }
    accesses = [access for code in codes for access in accesses_in(code, classes)]
    accessed = {access.of.place.name for access in accesses}
    accesses += [Access("class", c.place, c) for name, c in classes.items() if name not in accessed]
    order = {"object": 0, "function": 1, "class": 2}
    return Found(classes, tuple(sorted(accesses, key=lambda access: order[access.form])), models)


def settings_classes(code: Code) -> Iterator[SettingsClass]:
    """Classes that read the environment, directly or by a class of this module."""
    known = {"BaseSettings"}
    for node in code.body:
        if isinstance(node, ast.ClassDef) and known & {last_name(base) for base in node.bases}:
            known.add(node.name)
            yield described(code, node)


def described(code: Code, node: ast.ClassDef) -> SettingsClass:
    """What a class of settings says of itself."""
    options = config_of(node)
    functions = [inner for inner in node.body if isinstance(inner, FunctionNode)]
    return SettingsClass(
        Place(code.module, node.name, code.path, node.lineno),
        dict(fields_of(node)),
        dict(aliases_of(node)),
        frozenset(function.name for function in functions),
        options.get("env_prefix", ""),
        options.get("env_nested_delimiter", ""),
        options.get("env_file", ""),
    )


def fields_of(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The annotated attributes, each with the last name of its type."""
    for inner in node.body:
        match inner:
            case ast.AnnAssign(target=ast.Name(id=name)) if name != "model_config":
                yield name, last_name(inner.annotation)


def aliases_of(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The fields that are read from a variable of another name."""
    for name, value, _ in assigned(node.body):
        if isinstance(value, ast.Call):
            for option in ("validation_alias", "alias", "env"):
                if given := text_value(keyword(value, option)):
                    yield name, given
                    break


def config_of(node: ast.ClassDef) -> dict[str, str]:
    """The texts in `model_config`, or in the older `class Config`."""
    found: dict[str, str] = {}
    for name, value, _ in assigned(node.body):
        if name == "model_config" and isinstance(value, ast.Call):
            found |= {k.arg: text for k in value.keywords if k.arg and (text := text_value(k.value))}
    for inner in node.body:
        if isinstance(inner, ast.ClassDef) and inner.name == "Config":
            found |= {n: text for n, value, _ in assigned(inner.body) if (text := text_value(value))}
    return found


def accesses_in(code: Code, classes: dict[str, SettingsClass]) -> Iterator[Access]:
    """Objects of these classes in a module, and functions without parameters that return one."""
    makers: dict[str, SettingsClass] = {}
    for node in code.body:
        if isinstance(node, FunctionNode) and not required(node):
            made = {called(value.value) for value in ast.walk(node) if isinstance(value, ast.Return)}
            name = next(iter((made | {last_name(node.returns)}) & classes.keys()), None)
            if name is not None and isinstance(node, ast.FunctionDef):
                makers[node.name] = classes[name]
                yield Access("function", Place(code.module, node.name, code.path, node.lineno), classes[name])
    for name, value, node in assigned(code.body):
        of = classes.get(called(value)) or makers.get(called(value))
        if of is not None:
            yield Access("object", Place(code.module, name, code.path, node.lineno), of)


def variable_of(code: Code, argument: ast.expr, found: Found) -> str | None:
    """The environment variable from which the value of an expression comes; None when that is unclear."""
    node = unwrapped(code, argument)
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("os.environ", "environ"):
        return text_value(node.slice)
    if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("os.") in ("getenv", "environ.get"):
        return text_value(node.args[0]) if node.args else None
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    name = last_name(node.func) if isinstance(node, ast.Call) else last_name(node)
    of = next((a.of for a in found.accesses if name in (a.place.name, a.of.place.name)), None)
    if of is None and len({a.of.place.name for a in found.accesses}) == 1:
        of = found.accesses[0].of  # under another name
    return variable_of_field(of, parts, found) if of is not None and parts else None


def variable_of_field(of: SettingsClass, parts: list[str], found: Found) -> str | None:
    """The variable of a field, which may be one of a nested model."""
    first, *inner = parts
    if first not in of.fields:
        return None
    if not inner:
        return of.aliases.get(first) or f"{of.prefix}{first}".upper()
    nested = found.classes.get(of.fields[first])
    if nested is not None:
        return variable_of_field(nested, inner, found)
    known = found.models.get(of.fields[first], {})
    if len(inner) != 1 or inner[0] not in known or not of.delimiter:
        return None
    return f"{of.prefix}{first}{of.delimiter}{inner[0]}".upper()


def unwrapped(code: Code, node: ast.expr) -> ast.expr:
    """The expression without `str(…)` and the like; a name of the module stands for its value."""
    values = {name: value for name, value, _ in assigned(code.body)}
    for _ in range(5):
        if isinstance(node, ast.Call) and called(node) in WRAPPERS:
            inner = node.args[0] if node.args else None
            node = inner or (node.func.value if isinstance(node.func, ast.Attribute) else node)
        elif isinstance(node, ast.Name) and called(values.get(node.id)) in ("", *WRAPPERS, "getenv", "get"):
            node = values.get(node.id, node)
    return node
