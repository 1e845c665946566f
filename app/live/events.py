"""Events on the wire: Server-Sent Events (HTML, section 9.2). Pure.

An event without an id leaves the client's position, which it sends as `Last-Event-ID`, as it is. Events that are no
ledger entry have none.
"""

RETRY_MS = 2_000
RETRY = f"retry: {RETRY_MS}\n\n".encode()
HEARTBEAT = b": keep-alive\n\n"


def _event(name: str, data: str, number: int | None = None) -> bytes:
    """`data` has no line breaks: it is JSON."""
    position = "" if number is None else f"id: {number}\n"
    return f"{position}event: {name}\ndata: {data}\n\n".encode()


def snapshot(state: str, number: int | None, *, is_complete: bool) -> bytes:
    return _event("snapshot", f'{{"balance":{state},"is_complete":{"true" if is_complete else "false"}}}', number)


def change(entry: str, state: str, number: int) -> bytes:
    return _event("change", f'{{"entry":{entry},"balance":{state}}}', number)


def balance(state: str) -> bytes:
    return _event("balance", f'{{"balance":{state}}}')


def approval(state: str) -> bytes:
    return _event("approval", f'{{"approval":{state}}}')


def end(reason: str) -> bytes:
    return _event("end", f'{{"reason":"{reason}"}}')
