"""For the scenarios in LiteLLM's environment: our own model, calls of it, and LiteLLM's list of callbacks."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from ciris_billing import User

prompts: list[str] = []
"""The prompts that models received, in this process."""


go_on = threading.Event()
"""Lets the model answer the prompt `wait`, and send the rest of its streams."""
WORDS = [" one", " two", " three", " four", " five"]
"""A streamed answer: one token each. The prompt `break` ends it before the last word."""


class Model(BaseHTTPRequestHandler):
    """The model's server: an API of OpenAI's kind that gives every request the same answer, and `fail` a 500."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompts.append(body["messages"][0]["content"])
        if body.get("stream"):
            self._stream(broken=prompts[-1] == "break")
            return
        if prompts[-1] == "wait":
            go_on.wait(10)
        answer = {
            "id": f"chatcmpl-{len(prompts)}",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        }
        content = json.dumps(answer).encode()
        self.send_response(500 if prompts[-1] == "fail" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, *, broken: bool) -> None:
        """Send all words but the last one, and that once it may."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for word in WORDS[:-1]:
                self._event({"delta": {"role": "assistant", "content": word}, "finish_reason": None})
            go_on.wait(10)
            if broken:
                self.close_connection = True
                return
            self._event({"delta": {"content": WORDS[-1]}, "finish_reason": None})
            self._event({"delta": {}, "finish_reason": "stop"}, usage={"prompt_tokens": 1000, "completion_tokens": 100})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")

    def _event(self, choice: dict[str, Any], usage: dict[str, int] | None = None) -> None:
        event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
        choices = [{"index": 0, **choice}]
        counts = {} if usage is None else {"usage": {**usage, "total_tokens": sum(usage.values())}}
        self._chunk(f"data: {json.dumps({**event, 'choices': choices, **counts})}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers may go away."""


@contextlib.contextmanager
def model() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


def call(text: str, metadata: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o-mini",
        "messages": [{"role": "user", "content": text}],
        "metadata": metadata,
        "api_base": os.environ["MODEL_URL"],
        "api_key": "none",
        "num_retries": 0,
        "max_retries": 0,
        **more,
    }


class Ended(CustomLogger):  # type: ignore[misc]  # see the SDK
    """Follows the billing in LiteLLM's list, so its event means that the billing has received the call's end."""

    def __init__(self) -> None:
        super().__init__()
        self._told = asyncio.Event()

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._told.set()

    async_log_failure_event = async_log_success_event

    @contextlib.asynccontextmanager
    async def of_a_call(self) -> AsyncIterator[None]:
        self._told.clear()
        try:
            yield
        finally:
            await asyncio.wait_for(self._told.wait(), 10)


ended = Ended()


def use(*callbacks: CustomLogger) -> None:
    """Use only these callbacks: LiteLLM copies its callbacks to separate lists, and only adds to those."""
    for name in ("success_callback", "failure_callback", "input_callback"):
        for copies in (name, f"_async_{name}"):
            getattr(litellm, copies).clear()
    litellm.callbacks[:] = [*callbacks, ended]


async def ask(text: str, metadata: dict[str, Any] | None, **more: Any) -> None:
    """One awaited call, to the end of what follows it."""
    async with ended.of_a_call():
        await litellm.acompletion(**call(text, metadata, **more))


def who(scenario: str) -> User:
    return User("oauth:litellm", f"{scenario}@example.com")
