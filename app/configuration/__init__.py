"""What the operators set while the service runs: packs, products, defaults, payment providers."""
