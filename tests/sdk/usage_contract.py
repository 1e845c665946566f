"""A small server with the contract of the usage routes, for the reporter's tests. It lists what arrives, and misbehaves
on demand."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sdk.reactions import Reaction

Event = dict[str, Any]
User = tuple[Any, ...]


def user_of(event: Event) -> User:
    return event.get("user_id"), event.get("oauth_provider"), event.get("external_id")


@dataclass
class UsageContract:
    """Records each event once per user, and answers a repetition with `duplicate_event`."""

    url: str = ""
    recorded: dict[tuple[User, str], Event] = field(default_factory=dict)
    """In the order of arrival."""
    duplicates: int = 0
    requests: list[list[Event]] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    """One per request, before the normal answers."""
    refusal_of: Callable[[Event], str | None] = lambda event: None
    """The code with which an event is refused."""
    whole: Callable[[list[Event]], Reaction | None] = lambda events: None
    """The answer to a request that is refused as a whole."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def ids(self, user_id: str | None = None) -> list[str]:
        """Return the recorded event ids in order, of all users or of one."""
        return [event_id for user, event_id in self.recorded if user_id is None or user[0] == user_id]

    def wait_until(self, true: Callable[[], bool], timeout_s: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(true, timeout_s), "nothing more arrives"

    def answer(self, events: list[Event]) -> Reaction:
        with self.changed:
            self.requests.append(events)
            reaction = self.reactions.pop(0) if self.reactions else self.whole(events)
            if reaction is None or reaction.forward:
                results = [self._record(event) for event in events]
                done = sum(result["success"] for result in results)
                body = {"results": results, "processed": done, "failed": len(results) - done}
                reaction = reaction or Reaction(200, json.dumps(body).encode())
            self.changed.notify_all()
            return reaction

    def _record(self, event: Event) -> dict[str, Any]:
        key = user_of(event), event["event_id"]
        if key in self.recorded:
            self.duplicates += 1
            return {"event_id": key[1], "success": False, "error": "duplicate_event"}
        if (code := self.refusal_of(event)) is not None:
            return {"event_id": key[1], "success": False, "error": code}
        self.recorded[key] = event
        return {"event_id": key[1], "success": True, "cost_cents": 1, "cost": "0.000400"}


def _handler(contract: UsageContract) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/usage/batch"
            assert self.headers["x-api-key"] == "key"
            reaction = contract.answer(body["events"])
            time.sleep(reaction.slow_s)
            if reaction.status is None:
                self.close_connection = True
                return
            with contextlib.suppress(ConnectionError):
                self.send_response(reaction.status)
                for name, value in {**reaction.headers, "Content-Length": str(len(reaction.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reaction.body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def usage_contract() -> Iterator[UsageContract]:
    contract = UsageContract()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(contract))
    contract.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield contract
    server.shutdown()
    server.server_close()
    thread.join(5)
