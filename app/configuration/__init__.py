"""Configuration that admins change while the service runs: packs, products, defaults, payment providers."""
