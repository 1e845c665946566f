"""Payment providers: storage of their keys, and the rules for keys of each environment."""

import json
from collections.abc import Mapping

from pydantic import SecretStr

from app.auth.caller import Environment
from app.configuration.sealing import Sealed, Sealer
from app.errors import InvalidRequest
from app.settings import Settings
from app.stripe_keys import StripeKeys

KINDS: Mapping[str, tuple[str, ...]] = {
    "secret_key": ("sk", "rk"),
    "publishable_key": ("pk",),
}


def configured_keys(settings: Settings, environment: Environment) -> StripeKeys | None:
    """Return the keys in the settings."""
    return settings.stripe_live if environment == "live" else settings.stripe_test


def seal_keys(sealer: Sealer, environment: Environment, keys: StripeKeys) -> Sealed:
    """Encrypt the secret keys. Raises EncryptionNotConfigured."""
    secrets = {
        "secret_key": keys.secret_key.get_secret_value(),
        "webhook_secret": keys.webhook_secret.get_secret_value(),
    }
    return sealer.seal(json.dumps(secrets), _row(environment))


def open_keys(sealer: Sealer, environment: Environment, publishable_key: str, sealed: Sealed) -> StripeKeys:
    """Decrypt stored keys. Raises CannotOpen."""
    secrets = json.loads(sealer.open(sealed, _row(environment)))
    return StripeKeys(
        publishable_key=publishable_key,
        secret_key=SecretStr(secrets["secret_key"]),
        webhook_secret=SecretStr(secrets["webhook_secret"]),
    )


def _row(environment: Environment) -> str:
    return f"payment_providers/{environment}"


def require_keys_of(environment: Environment, keys: StripeKeys, *, is_local: bool) -> None:
    """Refuse texts that are no keys of Stripe, and keys of its other mode. The local Stripe has one mode only.

    Raises InvalidRequest, which names the field.
    """
    mode = "test" if is_local else environment
    for name, kinds in KINDS.items():
        value = keys.secret_key.get_secret_value() if name == "secret_key" else keys.publishable_key
        if not value.startswith(tuple(f"{kind}_{mode}_" for kind in kinds)):
            expected = " or ".join(f"{kind}_{mode}_" for kind in kinds)
            raise InvalidRequest(f"{name} of the {environment} environment begins with {expected}", field=name)
    if not keys.webhook_secret.get_secret_value().startswith("whsec_"):
        raise InvalidRequest("webhook_secret begins with whsec_", field="webhook_secret")
