"""Connection URLs: one parser for PostgreSQL and Redis, and the arguments that each driver takes for them.

Accepts what libpq accepts for the parts of a URL, and a fixed list of parameters. Every other parameter is refused by
name, because a driver that ignores it would silently not do what it says. No message quotes a password.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote, urlencode

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRIBUTES = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
DEFAULT_PORT = 5432
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")
_PARTS = ("host", "port", "user", "password", "dbname")
POSTGRES_PARAMETERS = (*_TLS, "application_name", "connect_timeout", "target_session_attrs", *_PARTS)
REDIS_PARAMETERS = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_FILES = ("sslrootcert", "sslcert", "sslkey", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": SSL_MODES,
    "target_session_attrs": SESSION_ATTRIBUTES,
    "ssl_cert_reqs": ("required", "none"),
    "ssl_check_hostname": ("true", "false"),
}
_NUMBERS = {"connect_timeout": range(1, 61), "db": range(65_536)}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


class InvalidUrl(ValueError):
    """The URL cannot be used. The sentence names the part and says what to do; it quotes no secret."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The address of a PostgreSQL server, and the parameters of connections to it.

    Several `hosts` are tried in turn. A host that begins with a slash is the folder of a Unix socket. Absent values are
    the driver's defaults.
    """

    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL. Raises InvalidUrl."""
        parts = _split(url, ("postgresql", "postgres"), POSTGRES_PARAMETERS)
        given = parts.parameters
        named = {name: given.pop(name) for name in _PARTS if name in given}
        both = {"host": parts.hosts, "user": parts.user, "password": parts.password, "dbname": parts.path}
        if twice := [name for name in named if both.get(name)]:
            raise InvalidUrl(f"has the {twice[0]} twice, once as a parameter")
        hosts = parts.hosts or _hosts(named.get("host", ""), named.get("port", ""))
        if "port" in named and parts.hosts:
            raise InvalidUrl("has the parameter port, but no parameter host: write the port behind the host")
        _require_together(given, "sslcert", "sslkey")
        if given.get("sslmode", "").startswith("verify") and "sslrootcert" not in given:
            raise InvalidUrl(
                f"has sslmode={given['sslmode']}, which needs sslrootcert, the file with the CA's certificate"
            )
        if "sslkey" in given:
            _refuse_open_key(Path(given["sslkey"]))
        return cls(
            hosts,
            parts.user or named.get("user"),
            parts.password or named.get("password"),
            parts.path or named.get("dbname"),
            given,
        )

    def asyncpg(
        self, *, timeout_s: float | None = None, suffix: str = "", settings: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the arguments of `asyncpg.connect`, which are also SQLAlchemy's `connect_args`.

        `timeout_s` bounds the time to connect; `connect_timeout` shortens it. `suffix` is appended to the
        application's name.
        """
        timeouts = [float(self.parameters["connect_timeout"])] if "connect_timeout" in self.parameters else []
        name = self.parameters.get("application_name", "ciris-billing") + suffix
        arguments: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "timeout": min([*timeouts, *([timeout_s] if timeout_s is not None else [])], default=None),
            "server_settings": {"application_name": name, **(settings or {})},
        }
        if self.hosts:
            arguments["host"] = [host for host, _ in self.hosts]
            arguments["port"] = [port or DEFAULT_PORT for _, port in self.hosts]
        if "target_session_attrs" in self.parameters:
            arguments["target_session_attrs"] = self.parameters["target_session_attrs"]
        tls = {name: self.parameters[name] for name in _TLS if name in self.parameters}
        if tls:  # the driver accepts these in a URL only
            arguments["dsn"] = f"postgresql://?{urlencode(tls, quote_via=quote)}"
        return {name: value for name, value in arguments.items() if value is not None}

    def libpq(self) -> str:
        """Return libpq's connection string, for psycopg."""
        values = {"user": self.user, "password": self.password, "dbname": self.database, **self.parameters}
        if self.hosts:
            values["host"] = ",".join(host for host, _ in self.hosts)
            values["port"] = ",".join(str(port or DEFAULT_PORT) for _, port in self.hosts)
        quoted = {name: value.replace("\\", r"\\").replace("'", r"\'") for name, value in values.items() if value}
        return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def check_redis_url(url: str) -> None:
    """Raise InvalidUrl unless Redis' client accepts the URL as it is written."""
    parts = _split(url, ("redis", "rediss", "unix"), REDIS_PARAMETERS)
    if len(parts.hosts) > 1:
        raise InvalidUrl("names several hosts, of which Redis' client takes one")
    tls = [name for name in parts.parameters if name.startswith("ssl_")]
    if tls and parts.scheme != "rediss":
        raise InvalidUrl(f"has the parameter {tls[0]}, which needs rediss://")
    _require_together(parts.parameters, "ssl_certfile", "ssl_keyfile")
    if parts.scheme != "unix" and parts.path and not parts.path.isdecimal():
        raise InvalidUrl("has a database that is not a number")


@dataclass(frozen=True, slots=True)
class _Parts:
    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    user: str | None
    password: str | None
    path: str | None
    parameters: dict[str, str]


def _split(url: str, schemes: tuple[str, ...], known: tuple[str, ...]) -> _Parts:
    """Split a URL as libpq does: a user and a password end at the first `@` before the first slash."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        raise InvalidUrl(f"must begin with {' or '.join(f'{each}://' for each in schemes)}")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise InvalidUrl("contains a blank or a control character: write it as %20, for instance")
    if _BAD_ESCAPE.search(url):
        raise InvalidUrl("contains a % that no two hexadecimal digits follow, or %00: write % as %25")
    slash = rest.find("/")
    at = rest.find("@", 0, slash if slash >= 0 else len(rest))
    user, _, password = rest[: max(at, 0)].partition(":")
    rest, _, query = rest[at + 1 :].partition("?")
    hosts, _, path = rest.partition("/")
    if "@" in hosts:
        raise InvalidUrl("contains several @ before the host: write @ in a password as %40")
    return _Parts(
        scheme,
        _hosts(hosts, ""),
        unquote(user) or None,
        unquote(password) or None,
        unquote(path) or None,
        _parameters(query, known),
    )


def _parameters(query: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for parameter in query.split("&") if query else []:
        name, separator, value = parameter.partition("=")
        if not separator or _NAME.fullmatch(name) is None:
            raise InvalidUrl("has a parameter that is not of the form name=value: write ? in a password as %3F")
        if name not in known:
            raise InvalidUrl(f"has the parameter {name}, which is not supported; supported are {', '.join(known)}")
        if name in found:
            raise InvalidUrl(f"has the parameter {name} twice")
        found[name] = _checked(name, unquote(value))
    return found


def _checked(name: str, value: str) -> str:
    if not value:
        raise InvalidUrl(f"has the parameter {name} without a value")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise InvalidUrl(f"has the parameter {name}, which must be one of {', '.join(_CHOICES[name])}")
    if name in _NUMBERS and not (value.isdecimal() and value.isascii() and int(value[:9]) in _NUMBERS[name]):
        raise InvalidUrl(f"has the parameter {name}, which must be {_NUMBERS[name][0]} to {_NUMBERS[name][-1]}")
    if name in _FILES and not os.access(value, os.R_OK):
        raise InvalidUrl(f"has the parameter {name}, whose file {value} does not exist or cannot be read")
    return value


def _hosts(hosts: str, ports: str) -> tuple[tuple[str, int | None], ...]:
    """Parse `host:port,host:port`, or hosts with as many `ports`, or with one port for all."""
    if not hosts:
        if ports:
            raise InvalidUrl("has the parameter port, but no host")
        return ()
    listed = hosts.split(",")
    apart = ports.split(",") if ports else []
    if len(apart) not in (0, 1, len(listed)):
        raise InvalidUrl("must have one port, or one for each host")
    found = []
    for index, each in enumerate(listed):
        match = re.fullmatch(r"\[([^\[\]]+)\](?::([^:]*))?|([^:\[\]]+)(?::([^:]*))?", each)
        if match is None:
            raise InvalidUrl(
                "has a host that cannot be read: write IPv6 addresses in brackets, and percent-encode the rest"
            )
        port = apart[index % len(apart)] if apart else match[2] or match[4] or ""
        found.append((unquote(match[1] or match[3]), _port(port)))
    return tuple(found)


def _port(text: str) -> int | None:
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise InvalidUrl("has a port that is not 1 to 65535")
    return int(text) if text else None


def _require_together(parameters: Mapping[str, str], *names: str) -> None:
    given = [name for name in names if name in parameters]
    if given and len(given) < len(names):
        raise InvalidUrl(f"has the parameter {given[0]} without {' and '.join(set(names) - set(given))}")


def _refuse_open_key(key: Path) -> None:
    """Apply libpq's rule at start, which the worker would otherwise meet when it connects."""
    status = key.stat()
    allowed = 0o740 if status.st_uid == 0 else 0o700
    if status.st_mode & 0o777 & ~allowed:
        raise InvalidUrl(f"has the parameter sslkey, whose file {key} others may read: give it the mode 0600")
