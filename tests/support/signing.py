"""A key that signs statements in tests."""

SIGNING_KEY = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "2026-11",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
}
"""Of RFC 8037, appendix A: everyone knows its private part."""
