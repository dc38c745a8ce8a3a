"""`@task`: a function whose result is kept, so that a node which starts again does not call it again."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar, cast, overload

from .calls import Call, CallKind
from .errors import GraphValidationError
from .policies import RetryPolicy
from .scope import SCOPE, TASK_CALL, Scope

P = ParamSpec("P")
T = TypeVar("T")


@overload
def task(func: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def task(
    *, name: str | None = None, retry: RetryPolicy | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def task(func: Any = None, /, *, name: str | None = None, retry: RetryPolicy | None = None) -> Any:
    """Keep what a function returns: `@task`, or `@task(name=..., retry=RetryPolicy(...))`.

    Called in a node, it waits until all that came before is durable, runs, and returns once its result is durable too.
    When the node starts again, after a crash, a retry or a wait, the same call returns that result without running.
    Calls are matched by their order, and by `name` (the function's by default); of async ones that are started side by
    side, by the order in which they start. An exception is not kept: it leaves the node, or is retried here by `retry`.
    The result must be storable. With `durability="exit"` its results are committed as well.

    Called inside another `@task` it is a part of that; outside of a node it is the plain function. A call that dies
    half-way runs again: `get_context().idempotency_key` is the same for each of its attempts.
    Raises `UnencodableState`, `CallMismatch` besides what the function raises.
    """
    if func is None:
        return functools.partial(_decorated, name=name, retry=retry)
    return _decorated(func, name=name, retry=retry)


def _decorated(func: Any, *, name: str | None, retry: RetryPolicy | None) -> Any:
    if not callable(func):
        raise GraphValidationError(f"@task was given {func!r}; give it a function")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise GraphValidationError(f"@task(retry={retry!r}): give a RetryPolicy")
    kept = _Kept(func, name or str(getattr(func, "__name__", type(func).__name__)), retry)
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def called_async(*args: Any, **named: Any) -> Any:
            scope = SCOPE.get()
            if scope is None or TASK_CALL.get() is not None:
                return await func(*args, **named)
            return await kept.call_async(scope, args, named)

        return called_async

    @functools.wraps(func)
    def called(*args: Any, **named: Any) -> Any:
        scope = SCOPE.get()
        if scope is None or TASK_CALL.get() is not None:
            return func(*args, **named)
        return kept.call(scope, args, named)

    return called


class _Kept:
    """A function whose results are kept."""

    def __init__(self, func: Callable[..., Any], name: str, retry: RetryPolicy | None) -> None:
        self._func = func
        self._name = name
        self._retry = retry

    def call(self, scope: Scope, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        index, recorded = scope.begin(CallKind.TASK, self._name)
        if recorded is None:
            recorded = scope.confirm(index, CallKind.TASK, self._name, scope.desk.wait(scope.enter(index)))
        if recorded is None:
            result = self._run(index, args, named)
            recorded = scope.desk.wait(scope.record(index, Call(CallKind.TASK, self._name, result)))
        scope.keep(index, recorded)
        return recorded.value

    async def call_async(self, scope: Scope, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        index, recorded = scope.begin(CallKind.TASK, self._name)
        if recorded is None:
            recorded = scope.confirm(index, CallKind.TASK, self._name, await _answered(scope, scope.enter(index)))
        if recorded is None:
            result = await self._run_async(index, args, named)
            recorded = await _answered(scope, scope.record(index, Call(CallKind.TASK, self._name, result)))
        scope.keep(index, recorded)
        return recorded.value

    def _run(self, index: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        attempt = 1
        while True:
            token = TASK_CALL.set(index)
            try:
                return self._func(*args, **named)
            except Exception as error:
                if not self._again(error, attempt):
                    raise
            finally:
                TASK_CALL.reset(token)
            time.sleep(cast(RetryPolicy, self._retry).wait(attempt))
            attempt += 1

    async def _run_async(self, index: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        attempt = 1
        while True:
            token = TASK_CALL.set(index)
            try:
                return await cast(Coroutine[Any, Any, Any], self._func(*args, **named))
            except Exception as error:
                if not self._again(error, attempt):
                    raise
            finally:
                TASK_CALL.reset(token)
            await asyncio.sleep(cast(RetryPolicy, self._retry).wait(attempt))
            attempt += 1

    def _again(self, error: Exception, attempt: int) -> bool:
        policy = self._retry
        return policy is not None and attempt < policy.max_attempts and policy.retries(error)


async def _answered(scope: Scope, answer: Future[Any]) -> Any:
    if not answer.done():
        scope.desk.hurry()
    return await asyncio.wrap_future(answer)
