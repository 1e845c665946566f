"""Subjects of client certificates (RFC 4514), as a proxy writes them."""

import pytest

from app.auth.client_certificate import is_subject


@pytest.mark.parametrize(
    "subject",
    [
        "CN=agent-7",
        "CN=agent-7,O=Example",
        "CN=agent-7, O=Example",
        "CN=Agent M\u00fcller\\, 7,O=Example",
        "OU=a+CN=b,C=DE",
        "1.2.840.113549.1.9.1=#1612,CN=a",
        "CN=a=b",
        "SERIALNUMBER=7",
    ],
)
def test_a_distinguished_name_is_a_subject(subject: str) -> None:
    assert is_subject(subject)


@pytest.mark.parametrize(
    "text", ["not a subject", "agent", "CN", "CN=", "=x", "CN=a,", ",CN=a", "CN=a,b", "", "CN=a\\"]
)
def test_other_texts_are_none(text: str) -> None:
    assert not is_subject(text)


def test_a_long_text_is_decided_at_once() -> None:
    assert not is_subject("CN=" + "a" * 500 + ",")
    assert not is_subject("a=b," * 128)
