"""Methods of the blocking and the async classes, made from the flows of one class."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, get_args

from ciris_billing._exchange import Flow

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
M = TypeVar("M", bound=Callable[..., Any])


class Blocking(Protocol[S_co]):
    """Has operations, and performs their flows."""

    @property
    def _operations(self) -> S_co: ...

    def _run(self, flow: Flow[T]) -> T: ...


class Awaiting(Protocol[S_co]):
    """Has operations, and performs their flows when awaited."""

    @property
    def _operations(self) -> S_co: ...

    def _run(self, flow: Flow[T]) -> Awaitable[T]: ...


def blocking(operation: Callable[Concatenate[S, P], Flow[T]]) -> Callable[Concatenate[Blocking[S], P], T]:
    def method(self: Blocking[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(self._operations, *args, **kwargs))

    return _described(method, operation)


def awaited(
    operation: Callable[Concatenate[S, P], Flow[T]],
) -> Callable[Concatenate[Awaiting[S], P], Coroutine[Any, Any, T]]:
    async def method(self: Awaiting[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(self._operations, *args, **kwargs))

    return _described(method, operation)


def _described(method: M, operation: Callable[..., Flow[Any]]) -> M:
    """Copy the operation's name, docstring and signature to the method, with the method's own return type."""
    functools.update_wrapper(method, operation)
    signature = inspect.signature(operation)
    *_, returned = get_args(signature.return_annotation)
    vars(method)["__signature__"] = signature.replace(return_annotation=returned)
    return method
