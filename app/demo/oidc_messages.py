"""Messages of the local OpenID provider: its parsed requests, its errors and its switches."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field

from app.demo.oidc_page import User
from app.demo.oidc_tokens import Alg, Fault

Delivery = Literal["ok", "error", "slow", "black_hole"]
BLACK_HOLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Client:
    """An application that may request sign-ins. Without a secret it authenticates by PKCE alone."""

    client_id: str
    client_secret: str | None
    redirect_uris: tuple[str, ...]


class Mint(BaseModel):
    """The content of a minted token: `faults` as in the switches; every other member is a claim, null removes it."""

    model_config = ConfigDict(extra="allow")

    faults: frozenset[Fault] = frozenset()


class Switches(BaseModel):
    """The provider's behaviour from now on. `id_token` lists the faults of every token that it issues."""

    model_config = ConfigDict(extra="forbid")

    signing_alg: Alg = "RS256"
    id_token: frozenset[Fault] = frozenset()
    jwks: Delivery = "ok"
    token_endpoint: Delivery = "ok"
    slow_s: float = Field(default=5.0, ge=0, le=BLACK_HOLE_S)
    code_lifetime_s: float = Field(default=60.0, ge=0, le=600)


class OAuthError(Exception):
    """An error of the protocol (RFC 6749, sections 4.1.2.1 and 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    client_id: str
    redirect_uri: str
    scopes: frozenset[str]
    state: str | None
    nonce: str | None
    code_challenge: str
    prompt: frozenset[str]
    hd: str | None
    login_hint: str | None


@dataclass(frozen=True, slots=True)
class Code:
    request: AuthorizationRequest
    user: User
    issued_monotonic_s: float


def parameters_of(encoded: str) -> dict[str, str]:
    """Return form or query parameters. Raise OAuthError for a repeated one, as RFC 6749 section 3.1 requires."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise OAuthError("invalid_request", "too many parameters") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise OAuthError("invalid_request", "a parameter is included more than once")
    return {name: value for name, value in parameters.items() if value}
