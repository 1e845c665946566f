"""Tokens of LiteLLM calls: the most that a call can use, and what a stream has delivered."""

from collections.abc import Mapping
from typing import Any

import litellm

from ciris_billing.usage import LlmTokens

CHARS_PER_TOKEN = 3
"""Of a text that the tokenizer cannot count. Real tokens are longer."""


class Delivery:
    """The delivered part of a stream."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._chunks = 0

    def add(self, chunk: Any) -> None:
        for choice in getattr(chunk, "choices", None) or ():
            delta = getattr(choice, "delta", None)
            calls = getattr(delta, "tool_calls", None) or ()
            parts = [getattr(delta, "content", None), getattr(delta, "reasoning_content", None)]
            parts += [getattr(getattr(call, "function", None), "arguments", None) for call in calls]
            self._texts += [part for part in parts if isinstance(part, str) and part]
        self._chunks += 1

    def copy(self) -> "Delivery":
        copied = Delivery()
        copied._texts, copied._chunks = list(self._texts), self._chunks
        return copied

    def tokens(self) -> int:
        """Return the number of delivered tokens; a chunk of an unknown form is one."""
        text = "".join(self._texts)
        return _count(text=text) if text else self._chunks


def estimated(kwargs: Mapping[str, Any], call_type: object, max_tokens: int) -> LlmTokens:
    """Return the largest use of tokens that a call can have."""
    logged = kwargs.get("litellm_logging_obj")
    model = str(kwargs.get("model") or getattr(logged, "model", None) or "unknown")
    try:
        names = litellm.get_llm_provider(model, kwargs.get("custom_llm_provider"), kwargs.get("api_base"))
        model, provider = names[:2]
    except Exception:  # LiteLLM raises many kinds; the service has prices for unknown models
        provider = str(kwargs.get("custom_llm_provider") or "unknown")
    messages = kwargs.get("messages") or getattr(logged, "messages", None)
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        prompt = _count(messages=messages, tools=kwargs.get("tools"))
    else:
        prompt = _count(text=str(kwargs.get("input") or kwargs.get("prompt") or messages or ""))
    if "embedding" in str(call_type):
        return LlmTokens(provider, model, prompt, 0)
    limit = kwargs.get("max_completion_tokens") or kwargs.get("max_tokens")
    answers = kwargs.get("n")
    most = limit if isinstance(limit, int) and limit > 0 else max_tokens
    return LlmTokens(provider, model, prompt, most * (answers if isinstance(answers, int) and answers > 0 else 1))


def _count(**prompt: Any) -> int:
    """Return the number of tokens by OpenAI's tokenizer, which LiteLLM contains: others would be downloaded."""
    try:
        return int(litellm.token_counter(model="gpt-4o", **prompt))
    except Exception:  # images and other content that the tokenizer does not know
        return len(str(prompt)) // CHARS_PER_TOKEN
