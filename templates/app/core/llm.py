"""The provider of this process: what `llm_http` makes of the settings. Another adapter goes in here."""

from __future__ import annotations

from functools import cache

from app.core.llm_http import HttpProvider
from app.core.llm_provider import Provider
from app.core.llm_settings import llm_settings


@cache
def provider() -> Provider:
    """The one that all calls of this process's event loop share."""
    return HttpProvider(llm_settings())
