"""Connection URLs: which are accepted, which are rejected by name, and that every driver gets the same."""

from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
from pydantic import ValidationError

from app.connection_urls import POSTGRES_PARAMETERS, REDIS_PARAMETERS, InvalidUrl, PostgresUrl, check_redis_url
from app.settings import Settings
from tests.databases import ROOT
from tests.test_cli import UNUSABLE, run

PASSWORD = "s3cr3t"
URLS = ("database_url", "database_owner_url", "database_direct_url", "database_read_url")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://", {}),
        ("postgres://u@h/d", {"user": "u", "host": ["h"], "port": [5432], "database": "d"}),
        ("postgresql://u:p@h:6432/d", {"user": "u", "password": "p", "host": ["h"], "port": [6432], "database": "d"}),
        (
            "postgresql://u%40x:p%2F%3A%40%25%20%C3%BC@h/d%2Fe",
            {"user": "u@x", "password": "p/:@% ü", "database": "d/e"},
        ),
        ("postgresql://u:a?b#c&d=e@h/d", {"user": "u", "password": "a?b#c&d=e", "host": ["h"], "database": "d"}),
        ("postgresql://u@[2001:db8::1]:5433/d", {"host": ["2001:db8::1"], "port": [5433]}),
        ("postgresql://u@[::1]/d", {"host": ["::1"], "port": [5432]}),
        ("postgresql:///d?host=/run/postgresql&user=u", {"host": ["/run/postgresql"], "user": "u", "database": "d"}),
        ("postgresql://u@%2Frun%2Fpostgresql/d", {"host": ["/run/postgresql"], "user": "u"}),
        ("postgresql://u@a:1,b,[::1]:3/d", {"host": ["a", "b", "::1"], "port": [1, 5432, 3]}),
        ("postgresql:///d?host=a,b&port=5433", {"host": ["a", "b"], "port": [5433, 5433]}),
        ("postgresql://?host=h&port=1&user=u&password=p&dbname=d", {"host": ["h"], "port": [1], "password": "p"}),
        ("postgresql://h/d?sslmode=require", {"dsn": "postgresql://?sslmode=require"}),
        (
            "postgresql://h/d?application_name=agents%20a",
            {"server_settings": {"application_name": "agents a", "x": "1"}},
        ),
        ("postgresql://h/d?target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("postgresql://h/d?connect_timeout=2", {"timeout": 2.0}),
        ("postgresql://h/d?connect_timeout=20", {"timeout": 3.0}),
    ],
)
def test_every_driver_gets_what_the_url_says(url: str, expected: dict[str, Any]) -> None:
    parsed = PostgresUrl.parse(url)
    arguments = parsed.asyncpg(timeout_s=3.0, settings={"x": "1"})
    assert expected.items() <= arguments.items()
    libpq: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(parsed.libpq())
    assert libpq.get("user") == arguments.get("user")
    assert libpq.get("password") == arguments.get("password")
    assert libpq.get("dbname") == arguments.get("database")
    assert libpq.get("host", "") == ",".join(arguments.get("host", []))
    assert libpq.get("port", "") == ",".join(map(str, arguments.get("port", [])))
    for name in ("sslmode", "connect_timeout", "target_session_attrs"):
        assert (f"{name}=" in url) == (name in libpq)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql://u:s3cr3t@h/d", "must begin with postgresql://"),
        ("postgresql+asyncpg://u:s3cr3t@h/d", "must begin with postgresql://"),
        ("u:s3cr3t@h/d", "must begin with postgresql://"),
        ("postgresql://u:s3cr3t@h/d?channel_binding=require", "the parameter channel_binding, which is not supported"),
        ("postgresql://u:s3cr3t@h/d?options=-c%20geqo%3Doff", "the parameter options, which is not supported"),
        ("postgresql://u:s3cr3t@h/d?pgbouncer=true", "the parameter pgbouncer, which is not supported"),
        ("postgresql://u:s3cr3t@h/d?sslmode=on", "the parameter sslmode, which must be one of disable"),
        ("postgresql://u:s3cr3t@h/d?sslmode=require&sslmode=disable", "the parameter sslmode twice"),
        ("postgresql://u:s3cr3t@h/d?sslmode=", "the parameter sslmode without a value"),
        ("postgresql://u:s3cr3t@h/d?sslmode=verify-full", "sslmode=verify-full, which needs sslrootcert"),
        ("postgresql://u:s3cr3t@h/d?sslrootcert=/nowhere.crt", "sslrootcert, whose file /nowhere.crt does not exist"),
        ("postgresql://u:s3cr3t@h/d?sslcert=/dev/null", "the parameter sslcert without sslkey"),
        ("postgresql://u:s3cr3t@h/d?connect_timeout=0", "connect_timeout, which must be 1 to 60"),
        ("postgresql://u:s3cr3t@h/d?connect_timeout=%C2%B2", "connect_timeout, which must be 1 to 60"),
        ("postgresql://u:s3cr3t@h/d?target_session_attrs=master", "target_session_attrs, which must be one of any"),
        ("postgresql://u:s3cr3t@h/d?host=other", "has the host twice"),
        ("postgresql://u:s3cr3t@h/d?password=other", "has the password twice"),
        ("postgresql://u:s3cr3t@h/d?port=1", "the parameter port, but no parameter host"),
        ("postgresql://u:s3cr3t@h/d?s3cr3t", "not of the form name=value"),
        ("postgresql://u:s3cr3t@h/d?s3cr3t!=1", "not of the form name=value"),
        ("postgresql://u:s3cr3t%zz@h/d", "contains a %"),
        ("postgresql://u:s3cr3t%00@h/d", "contains a %"),
        ("postgresql://u:s3cr3t@@h/d", "several @"),
        ("postgresql://u:s3cr3t x@h/d", "contains a blank"),
        ("postgresql://u:s3cr3t@h:port/d", "has a port"),
        ("postgresql://u:s3cr3t@h:65536/d", "has a port"),
        ("postgresql://u:s3cr3t/x@h/d", "has a port"),
        ("postgresql://u:s3cr3t@::1/d", "has a host that cannot be read"),
    ],
)
@pytest.mark.parametrize("setting", URLS)
def test_the_rest_is_refused_by_name_and_no_password_is_quoted(setting: str, url: str, named: str) -> None:
    given = {"mode": "development", "database_url": "postgresql://h/d", setting: url}
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(given)
    [problem] = refused.value.errors()
    assert problem["loc"] == (setting,)
    assert named in problem["msg"]
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6380/1",
        "rediss://u:p%40@h:6380/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "rediss://[::1]:6380",
        "unix:///run/valkey.sock?db=1",
        "unix://u:p@/run/valkey.sock",
    ],
)
def test_redis_takes_its_own_urls(url: str) -> None:
    check_redis_url(url)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://u:s3cr3t@h", "must begin with redis://"),
        ("redis://u:s3cr3t@h?sslmode=require", "the parameter sslmode, which is not supported"),
        ("redis://u:s3cr3t@h?socket_timeout=1", "the parameter socket_timeout, which is not supported"),
        ("redis://u:s3cr3t@h?ssl_cert_reqs=none", "ssl_cert_reqs, which needs rediss://"),
        ("rediss://u:s3cr3t@h?ssl_cert_reqs=maybe", "ssl_cert_reqs, which must be one of required, none"),
        ("rediss://u:s3cr3t@h?ssl_ca_certs=/nowhere.crt", "ssl_ca_certs, whose file /nowhere.crt does not exist"),
        ("redis://u:s3cr3t@a,b", "several hosts"),
        ("redis://u:s3cr3t@h/first", "a database that is not a number"),
        ("redis://u:s3cr3t@h:port", "has a port"),
    ],
)
def test_redis_urls_are_refused_by_name(url: str, named: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"mode": "development", "database_url": "postgresql://h/d", "redis_url": url})
    assert named in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_private_key_that_others_may_read_is_refused_at_start(tmp_path: Path) -> None:
    """libpq refuses it, but only once the worker connects."""
    for name in ("crt", "key"):
        (tmp_path / name).write_text("")
    url = f"postgresql://h/d?sslcert={tmp_path}/crt&sslkey={tmp_path}/key"
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(InvalidUrl, match="others may read"):
        PostgresUrl.parse(url)
    (tmp_path / "key").chmod(0o600)
    PostgresUrl.parse(url)


def test_commands_say_which_parameter_is_wrong() -> None:
    refused = run({"MODE": "development", "DATABASE_URL": "postgresql://u:s3cr3t@h/d?keepalives=1"}, "migrate")
    assert refused.status == UNUSABLE
    assert refused.err.startswith("DATABASE_URL: Value error, has the parameter keepalives, which is not supported")
    assert PASSWORD not in refused.err


def test_the_documentation_lists_every_parameter() -> None:
    page = (ROOT / "docs" / "deployment-data.md").read_text(encoding="utf-8")
    for name in (*POSTGRES_PARAMETERS, *REDIS_PARAMETERS):
        assert f"`{name}`" in page
