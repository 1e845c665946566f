"""Issuers: the OpenID providers whose ID tokens identify end users. Free of I/O.

Operators list them in the setting ISSUERS, and Google in GOOGLE_CLIENT_IDS (app/settings.py). app/auth/id_tokens
verifies their tokens. They are not runtime configuration: a change takes a restart.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

GOOGLE_JWKS_URL = "https://www.googleapis.com/oauth2/v3/certs"
GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
"""Google documents both forms as in use."""


MoneyText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]


class Issuer(BaseModel):
    """An OIDC issuer whose ID tokens identify end users. `provider` becomes their `oauth_provider`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1, max_length=255)
    jwks_url: str = Field(pattern=r"^https?://\S+$")
    audiences: list[str] = Field(min_length=1)
    interactive_audiences: list[str] = []
    """The audiences whose tokens only a person has, who has just signed in: never an agent."""
    provider: str = Field(pattern=r"^oauth:.+", max_length=255)
    subject_claim: str = "sub"
    environment: Literal["live", "test"] = "live"
    default_limits: dict[Literal["day", "month"], MoneyText] | None = None
    """Money that each user may spend in a window, in the currency's major unit. The operator's limits."""

    @model_validator(mode="after")
    def _interactive_audiences_are_audiences(self) -> Self:
        if unknown := set(self.interactive_audiences) - set(self.audiences):
            raise ValueError(f"interactive_audiences has {sorted(unknown)[0]!r}, which is not one of audiences")
        return self


def google_issuers(client_ids: list[str]) -> list[Issuer]:
    """Return Google under both of its names, for the tokens of these OAuth clients."""
    return [
        Issuer(issuer=name, jwks_url=GOOGLE_JWKS_URL, audiences=client_ids, provider="oauth:google")
        for name in GOOGLE_ISSUERS
    ]
