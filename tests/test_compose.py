"""docker-compose.yml and its files: properties that the Compose schema cannot check."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.databases import ROOT

BASE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OVERRIDE = yaml.safe_load((ROOT / "docker-compose.override.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = BASE["services"]
OURS = [name for name, service in SERVICES.items() if "BILLING_IMAGE" in service["image"]]
OF_THE_TRACER = {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def every(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, SERVICES)


def sources(service: dict[str, Any]) -> list[str]:
    return [volume.split(":")[0] for volume in service.get("volumes", [])]


def test_the_parts_of_the_picture_are_there() -> None:
    assert set(OURS) == {"api-1", "api-2", "worker", "migrate"}
    assert {"caddy", "pgbouncer", "postgres", "backup", "prometheus", "grafana"} < set(SERVICES)
    assert SERVICES["api-1"] == SERVICES["api-2"]
    assert SERVICES["otel-collector"]["profiles"] == ["tracing"]
    assert SERVICES["alertmanager"]["profiles"] == ["alerting"]


@every("name")
def test_every_secret_exists_and_every_file_setting_names_one(name: str) -> None:
    service = SERVICES[name]
    granted = service.get("secrets", [])
    assert set(granted) <= set(BASE["secrets"])
    for variable, value in service.get("environment", {}).items():
        if variable.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in granted, variable
        assert not re.search(r"(password|secret|token)$", variable, re.I), f"{variable} belongs into a file"


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_given_real_settings_and_start_by_them(
    name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name is a setting's, and docker/make-secrets makes everything that production requires."""
    environment = SERVICES[name]["environment"]
    names = {variable.removesuffix("_FILE").lower() for variable in set(environment) - OF_THE_TRACER}
    assert names <= set(Settings.model_fields)
    for variable in os.environ:
        if variable.lower().removesuffix("_file") in Settings.model_fields:
            monkeypatch.delenv(variable)
    for variable, value in environment.items():
        given = interpolated(str(value or "")).replace("/run/secrets/", f"{secrets}/")
        if given:
            monkeypatch.setenv(variable, given)
    settings = Settings()
    assert settings.is_pooled
    assert settings.base_url == "https://billing.example.com"
    assert settings.stripe_live is None
    assert len(settings.encryption_keys) == 1
    assert (settings.database_owner_url is not None) == (name == "migrate")


def interpolated(text: str) -> str:
    """`${NAME:-default}` and `${NAME:?why}` with .env.example in the environment."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def value(found: re.Match[str]) -> str:
        return given.get(found[1]) or (found[3] if found[2] == "-" else "")

    return re.sub(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}", value, text)


def test_every_variable_without_a_default_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in re.findall(r"\$\{([A-Z_]+):\?", text):
        assert re.search(rf"^{name}=.+$", example, re.M), name


@every("name")
def test_every_mounted_file_is_in_the_repository_and_every_volume_is_named(name: str) -> None:
    for source in sources(SERVICES[name]):
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
        else:
            assert source in BASE["volumes"], source


@every("name")
def test_images_are_pinned_and_resources_limited(name: str) -> None:
    service = SERVICES[name]
    tag = interpolated(service["image"]).rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+", tag), f"{service['image']} is no fixed version"
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["cpus"]
    assert service["logging"]["options"]["max-size"]


@every("name")
def test_only_the_edge_is_reachable_from_outside(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    if name == "caddy":
        assert published == ["80:80", "443:443"]
    else:
        assert all(port.startswith("127.0.0.1:") for port in published)
    assert name not in ("postgres", "pgbouncer") or not published
    assert not OVERRIDE["services"].get(name, {}).get("ports") or name == "api-1"


def test_who_talks_to_whom() -> None:
    networks = {name: set(service.get("networks", [])) for name, service in SERVICES.items()}
    assert {name for name, joined in networks.items() if "edge" in joined} == {"caddy", "api-1", "api-2"}
    assert networks["postgres"] == networks["pgbouncer"] == networks["migrate"] == networks["backup"] == {"inside"}
    assert all(BASE["networks"][name]["internal"] for name in ("edge", "inside", "monitoring"))
    [subnet] = BASE["networks"]["edge"]["ipam"]["config"]
    assert json.loads(SERVICES["api-1"]["environment"]["TRUSTED_PROXIES"]) == [subnet["subnet"]]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"postgres", "volumes"}))
def test_what_runs_writes_nowhere_but_its_volumes_and_has_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])
    assert "privileged" not in service


def test_the_collectors_pipelines_are_made_of_what_it_defines() -> None:
    """By its structure only: no package brings the collector itself."""
    collector = yaml.safe_load((ROOT / "docker/otel/collector.yml").read_text(encoding="utf-8"))
    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])
        assert pipeline["processors"][0] == "memory_limiter", "the limiter must reject data before they are buffered"
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"] == "0.0.0.0:4318"
    limits = SERVICES["otel-collector"]["deploy"]["resources"]["limits"]
    assert collector["processors"]["memory_limiter"]["limit_mib"] < int(limits["memory"].removesuffix("M"))


def test_alerts_find_the_alertmanager_and_a_receiver_once_they_are_switched_on() -> None:
    lines = (ROOT / "docker/prometheus/prometheus.yml").read_text(encoding="utf-8").splitlines()
    start = lines.index("# alerting:")
    switched_on = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines[start : start + 4]))
    [manager] = switched_on["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert set(SERVICES["prometheus"]["networks"]) & set(SERVICES["alertmanager"]["networks"])
    routing = yaml.safe_load((ROOT / "docker/alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
    receivers = {receiver["name"] for receiver in routing["receivers"]}
    assert {route["receiver"] for route in [routing["route"], *routing["route"]["routes"]]} == receivers
    rules = yaml.safe_load((ROOT / "docker/prometheus/rules.yml").read_text(encoding="utf-8"))
    severities = {rule["labels"]["severity"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert "page" in severities


def test_the_api_waits_for_the_migration_and_the_schema_for_nothing_else() -> None:
    for name in ("api-1", "api-2", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_the_pooler_lets_every_replica_in() -> None:
    ini = (ROOT / "docker" / "pgbouncer" / "pgbouncer.ini").read_text(encoding="utf-8")
    options = dict(re.findall(r"^(\w+) = ?(.*)$", ini, re.M))
    cached = Settings.model_fields["database_statement_cache_size"].default
    assert options["pool_mode"] == "transaction"
    assert int(options["max_prepared_statements"]) > cached
    assert int(options["max_client_conn"]) >= 10 * Settings.model_fields["database_pool_size"].default
    assert options["ignore_startup_parameters"] == ""
    allowed = next(word for word in SERVICES["postgres"]["command"] if word.startswith("max_connections="))
    assert int(options["default_pool_size"]) + 50 <= int(allowed.partition("=")[2])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that docker/make-secrets makes, run twice: the second time it changes nothing."""
    project = tmp_path_factory.mktemp("project")
    (project / "docker").mkdir()
    (project / "docker" / "make-secrets").write_bytes((ROOT / "docker" / "make-secrets").read_bytes())
    subprocess.run(["sh", project / "docker" / "make-secrets"], check=True)
    first = {file.name: file.read_text() for file in (project / "secrets").iterdir()}
    subprocess.run(["sh", project / "docker" / "make-secrets"], check=True)
    assert {file.name: file.read_text() for file in (project / "secrets").iterdir()} == first
    return project / "secrets"


def test_secrets_are_made_for_all_and_lie_where_only_their_owner_gets(secrets: Path) -> None:
    assert {entry["file"] for entry in BASE["secrets"].values()} == {f"./secrets/{f.name}" for f in secrets.iterdir()}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o444}
    made = [file.read_text() for file in secrets.iterdir() if file.stat().st_size]
    assert len(set(made)) == len(made)
    assert "secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1] == "*"
