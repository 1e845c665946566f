"""Rules of single settings: connection URLs, app schemes, web origins, tokens, secrets and encryption keys.

Each check returns the value, or raises ValueError. Rules that compare settings with each other are in app/settings.py.
"""

from base64 import b64decode
from collections.abc import Iterable
from typing import Annotated

from pydantic import SecretStr, StringConstraints

from app.connection_urls import PostgresUrl, check_redis_url
from app.setting_values import one_word

ENCRYPTION_KEY_BYTES = 32
MIN_SECRET_CHARS = 32
MAX_KEY_ID_CHARS = 64
AppScheme = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z][A-Za-z0-9+.-]{1,62}$")]
Origin = Annotated[
    str,
    StringConstraints(
        to_lower=True,
        max_length=255,
        pattern=r"^(?i:https?)://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]{0,4})?$",
    ),
]
"""A web page's origin as browsers send it: scheme, host and port."""
FrontendUrl = Annotated[str, StringConstraints(max_length=255, pattern=r"^https?://[^/\s?#@\\]+(/[^\s?#\\]*)?$")]
"""A web app's address: an origin, and the path where its pages begin."""
SCHEMES_OF_BROWSERS = frozenset(
    {"about", "blob", "data", "file", "filesystem", "ftp", "http", "https", "javascript", "vbscript", "view-source"}
)
"""No app can claim them: a browser runs their addresses or opens them itself."""


def check_postgres_url(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        PostgresUrl.parse(url.get_secret_value())
    return url


def check_redis_setting(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        check_redis_url(url.get_secret_value())
    return url


def check_token(token: SecretStr | None) -> SecretStr | None:
    return token if token is None else one_word(token)


def check_app_schemes(schemes: list[str]) -> list[str]:
    for scheme in schemes:
        if scheme in SCHEMES_OF_BROWSERS:
            raise ValueError(f"RETURN_URL_SCHEMES: {scheme} is a scheme of browsers, not of an app")
    return schemes


def check_origins(origins: list[str]) -> list[str]:
    """Raise ValueError for an origin with its scheme's default port, which browsers leave out."""
    for origin in origins:
        scheme = origin.partition(":")[0]
        if origin.endswith({"http": ":80", "https": ":443"}[scheme]):
            raise ValueError(f"leave out the port of {origin}, as browsers do")
    return origins


def check_https(setting: str, urls: str | Iterable[str] | None) -> None:
    """Raise ValueError for a web app without TLS, which production refuses."""
    if any(url.startswith("http://") for url in ([urls] if isinstance(urls, str) else urls or ())):
        raise ValueError(f"{setting.upper()} names an origin without TLS; production refuses it")


def check_encryption_keys(keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for key_id, key in keys.items():
        try:
            decoded = b64decode(key.get_secret_value(), validate=True)
        except ValueError:
            decoded = b""
        if not 0 < len(key_id) <= MAX_KEY_ID_CHARS or len(decoded) != ENCRYPTION_KEY_BYTES or not any(decoded):
            raise ValueError(f"ENCRYPTION_KEYS: the key {key_id!r} is not {ENCRYPTION_KEY_BYTES} bytes in base64")
    return keys


def check_secret(name: str, secret: SecretStr) -> None:
    """Raise ValueError for a secret that production refuses."""
    value = secret.get_secret_value()
    if len(value) < MIN_SECRET_CHARS or "demo" in value or "changeme" in value.lower():
        raise ValueError(f"{name} is too short (under {MIN_SECRET_CHARS} characters) or a default value")


def check_mode(mode: str, secret_key: SecretStr) -> None:
    """Raise ValueError for a key of another mode of Stripe: with one of the test mode, test cards buy live credits."""
    if not secret_key.get_secret_value().startswith((f"sk_{mode}_", f"rk_{mode}_")):
        raise ValueError(f"STRIPE_{mode.upper()}.secret_key is none of Stripe's {mode} mode")
