"""What a Python file says, layout aside: a formatter may have gone over a copy, and that is no edit."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from functools import cache
from hashlib import sha256


@cache
def said(text: str) -> str:
    """A short hash of the code and the comments of a file; of its text when it cannot be parsed. The same
    with each version of Python, for the copy was perhaps written with another one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escape sequences
            words = [*code(ast.parse(text)), *comments(text)]
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        words = [text]
    return sha256("\0".join(words).encode()).hexdigest()[:32]


def code(node: ast.AST) -> Iterator[str]:
    """The syntax tree as words. What is empty is left out: later versions of Python have more fields."""
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        if value is None and not isinstance(node, ast.Constant):
            continue
        if value == [] or name in {"kind", "type_comment", "type_ignores"}:
            continue
        yield name
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield from code(part)
            else:
                yield repr(part)
    yield "end"


def comments(text: str) -> Iterator[str]:
    """The comments, in their order."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return (token.string.rstrip() for token in tokens if token.type == tokenize.COMMENT)
