"""Reactions of the misbehaving servers."""

from dataclasses import dataclass, field


@dataclass
class Reaction:
    """The misbehaving server's reaction to one request. `status` None breaks the connection."""

    status: int | None = 503
    body: bytes = b"<html>no</html>"
    headers: dict[str, str] = field(default_factory=dict)
    slow_s: float = 0
    drip_s: float = 0
    """Seconds between two bytes of the body."""
    forward: bool = False
    """Let the service carry the request out first, and then react: its answer is lost."""
