"""The setting SIGNING_KEYS: standard keys are taken, and any other value stops the start with the reason."""

import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from app.receipts.signing import TYPE, Signer
from app.settings import Settings
from app.signing_keys import SigningKey, new_signing_key
from tests.conftest import settings_for
from tests.databases import Urls
from tests.processes import run_command
from tests.servers import environment
from tests.support.signing import SIGNING_KEY

OTHER = new_signing_key()


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**SIGNING_KEY, **changes}.items() if value is not ...}


REFUSED: dict[str, tuple[object, str]] = {
    "no list": ({"keys": [SIGNING_KEY]}, "valid list"),
    "no object": (["secret"], "valid dictionary"),
    "another curve": ([changed(crv="X25519")], "Ed25519"),
    "another kind": ([changed(kty="EC")], "OKP"),
    "no kind": ([changed(kty=...)], "required"),
    "no id": ([changed(kid="")], "pattern"),
    "an id with spaces": ([changed(kid="a b")], "pattern"),
    "a long id": ([changed(kid="a" * 65)], "pattern"),
    "a short private part": ([changed(d=SIGNING_KEY["d"][:-4])], "d is not 32 bytes in base64url"),
    "a private part with padding": ([changed(d=f"{SIGNING_KEY['d']}=")], "d is not 32 bytes in base64url"),
    "a private part of zeros": ([changed(d="A" * 43)], "d is not 32 bytes in base64url"),
    "a private part that is no base64": ([changed(d="-----BEGIN")], "d is not 32 bytes in base64url"),
    "an empty private part": ([changed(d="")], "d is not 32 bytes in base64url"),
    "a short public part": ([changed(x="AAAA", d=...)], "x is not 32 bytes in base64url"),
    "parts of two keys": ([changed(x=OTHER["x"])], "x and d are not one key pair"),
    "another purpose": ([changed(use="enc")], "sig"),
    "an unknown member": ([changed(key_ops=["sign"])], "Extra inputs"),
    "one id twice": ([SIGNING_KEY, changed(x=OTHER["x"], d=OTHER["d"])], "SIGNING_KEYS has the id 2026-11 twice"),
}


@pytest.mark.parametrize(("keys", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_bad_key_is_refused_with_the_reason(database: Urls, keys: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        settings_for(database, signing_keys=keys)
    assert "signing_keys" in str(refused.value).lower()
    assert SIGNING_KEY["d"] not in str(refused.value)


def test_the_service_does_not_start_with_a_bad_key(database: Urls) -> None:
    env = {**environment(database), "SIGNING_KEYS": json.dumps([changed(x=OTHER["x"])])}
    done = run_command(env, "serve", "--port", "0")
    assert done.status == 3
    assert "SIGNING_KEYS" in done.err
    assert "x and d are not one key pair" in done.err
    assert SIGNING_KEY["d"] not in done.err + done.out


def test_the_command_prints_a_value_of_the_setting(database: Urls) -> None:
    printed = [run_command(environment(database), "ledger", "new-key") for _ in range(2)]
    assert [done.status for done in printed] == [0, 0]
    keys = [settings_for(database, signing_keys=done.json).signing_keys[0] for done in printed]
    assert len({key.kid for key in keys}) == 2
    for key in keys:
        assert key.kid == OKPKey.import_key({"kty": key.kty, "crv": key.crv, "x": key.x}).thumbprint()


def test_a_standard_library_verifies_a_signature() -> None:
    keys = [SigningKey.model_validate(SIGNING_KEY)]
    signed = Signer(keys).sign({"type": TYPE, "balance": "1"})
    public = OKPKey.import_key(dict(keys[0].public()))
    found = jws.deserialize_compact(signed, public, algorithms=["EdDSA"])
    assert json.loads(found.payload) == {"type": TYPE, "balance": "1"}
    assert found.headers() == {"typ": TYPE, "alg": "EdDSA", "kid": "2026-11"}


def test_no_private_part_is_printed(settings: Settings) -> None:
    key = SigningKey.model_validate(SIGNING_KEY)
    for text in (repr(key), str(key), key.model_dump_json(), json.dumps(key.public())):
        assert SIGNING_KEY["d"] not in text
