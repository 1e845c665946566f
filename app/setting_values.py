"""Setting values: their sources, and the removal of blanks and control characters."""

import os
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, InstanceOf, PlainSerializer, SecretStr, StringConstraints, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""The name of an entry, such as a pack or a product."""


def _time_zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(str(name))
    except (OSError, ValueError, KeyError):  # no such file, a path, no such key
        raise ValueError("is not the name of a time zone, such as Europe/Kyiv") from None


TimeZone = Annotated[
    InstanceOf[tzinfo], BeforeValidator(_time_zone), PlainSerializer(str, return_type=str, when_used="json")
]
"""The name of a time zone in the IANA database."""
BYTE_ORDER_MARK = "\ufeff"
INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, of bytes that are no UTF-8, and of line and paragraph separators."""


class SecretFiles(EnvSettingsSource):
    """`NAME_FILE` names a file whose content is the value of `NAME`, the convention of Docker images.

    An empty file counts as not given: Compose needs every secret's file to be there.
    """

    def _load_env_vars(self) -> dict[str, str | None]:
        paths = {name: os.environ.get(f"{name.upper()}_FILE") for name in self.settings_cls.model_fields}
        given = {name: _read(name, path.strip()) for name, path in paths.items() if path and path.strip()}
        return {name: value for name, value in given.items() if value}


def _read(name: str, path: str) -> str:
    try:
        return _stripped(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        # Without the cause, which quotes the undecoded bytes.
        raise SettingsError(f"{name.upper()}_FILE: {path} is not text in UTF-8") from None


def clean(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings' values without blanks and line breaks at the ends, at any depth.

    Editors, `echo` and secret stores append them, and no value contains them. Raises ValueError, which names the
    setting, for other control characters, because their intended meaning is unknown.
    """
    return {name: _cleaned(name.upper(), value) for name, value in values.items()}


def _cleaned(name: str, value: Any) -> Any:
    match value:
        case str():
            return _checked(name, _stripped(value))
        case SecretStr():
            return SecretStr(_checked(name, _stripped(value.get_secret_value())))
        case dict():
            return {_key(name, key): _cleaned(f"{name}.{key}", each) for key, each in value.items()}
        case list():
            return [_cleaned(name, each) for each in value]
        case _:
            return value


def _stripped(text: str) -> str:
    return text.strip().removeprefix(BYTE_ORDER_MARK).strip()


def _checked(name: str, text: str) -> str:
    for character in text:
        if unicodedata.category(character) in INVISIBLE:
            raise ValueError(f"{name} contains the control character U+{ord(character):04X}")
    return text


def _key(name: str, key: Any) -> Any:
    if isinstance(key, str) and _checked(name, key) != key.strip():
        raise ValueError(f"{name} has a name with blanks at its ends")
    return key


def one_word(secret: SecretStr) -> SecretStr:
    """Return the secret. Raise ValueError if it cannot be part of a header, for example because of a line break.

    HTTP clients quote such a header in their errors.
    """
    if re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()) is None:
        raise ValueError("is empty, or has spaces, line breaks or letters that no key has")
    return secret


class CleanSettings(BaseSettings):
    """Settings from arguments, environment variables and secret files, without blanks at their ends."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _values_are_clean(cls, values: Any) -> Any:
        return clean(values) if isinstance(values, dict) else values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)
