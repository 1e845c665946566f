"""Wire format of statements and of the keys that verify them."""

from typing import Literal

from pydantic import Field

from app.http.schemas import Reply


class StatementReply(Reply):
    statement: str = Field(description="A compact JSON Web Signature (EdDSA). The page Receipts describes its payload.")


class PublicKey(Reply):
    """A JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: str
    x: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class PublicKeysReply(Reply):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[PublicKey]
