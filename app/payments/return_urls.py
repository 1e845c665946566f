"""Return addresses of Stripe's pages: only those of allowed web apps, or the pages of FRONTEND_URL."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from app.payments.errors import FrontendNotConfigured, ReturnUrlNotAllowed
from app.settings import Settings

SUCCESS_PATH = "/billing/success?session_id={CHECKOUT_SESSION_ID}"
"""Stripe replaces the name in braces by the id of the session."""
CANCEL_PATH = "/billing/cancel"
PORTAL_PATH = "/billing"
_PLAIN = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without the backslash, which browsers take for a slash."""


def return_urls(settings: Settings, success_url: str | None, cancel_url: str | None) -> tuple[str, str]:
    """Return the addresses to return to after a payment and without one.

    Raises ReturnUrlNotAllowed, and FrontendNotConfigured if one is not given and has no default.
    """
    frontend = settings.frontend_url.rstrip("/") if settings.frontend_url else None
    allowed = {*settings.return_url_origins, *({_origin(frontend)} if frontend else ())}
    urls = []
    for field, given, path in (("success_url", success_url, SUCCESS_PATH), ("cancel_url", cancel_url, CANCEL_PATH)):
        if given is not None:
            urls.append(_allowed(field, given, allowed))
        elif frontend is None:
            raise FrontendNotConfigured
        else:
            urls.append(f"{frontend}{path}")
    success, cancel = urls
    return success, cancel


def portal_return_url(settings: Settings, return_url: str | None) -> str:
    """Return the address to return to from the billing portal. Raises as `return_urls`."""
    success_url, _ = return_urls(settings, return_url, return_url)
    if return_url is not None:
        return success_url
    return success_url.removesuffix(SUCCESS_PATH) + PORTAL_PATH


def _allowed(field: str, url: str, allowed: Collection[str | None]) -> str:
    origin = _origin(url)
    if origin is None or origin not in allowed or _PLAIN.fullmatch(url) is None:
        raise ReturnUrlNotAllowed(field)
    return url


def _origin(url: str) -> str | None:
    """Return the origin as browsers write it. None: an address with a user name, or none of a web app."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or parts.hostname is None or "@" in parts.netloc:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"
