"""Configuration errors that end a request."""

from app.errors import AppError


class ConfigurationChanged(AppError):
    status, code = 409, "configuration_changed"

    def __init__(self, section: str, version: int) -> None:
        super().__init__(f"{section} is at version {version} by now: look at it, then change that")


class EncryptionNotConfigured(AppError):
    status, code = 409, "encryption_not_configured"

    def __init__(self) -> None:
        super().__init__("ENCRYPTION_KEYS is not set: secrets cannot be stored")
