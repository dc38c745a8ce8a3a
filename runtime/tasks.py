"""`@task`: a function whose result is kept, so that a node which starts again does not call it again."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from types import MethodType
from typing import Any, ParamSpec, SupportsIndex, TypeVar, overload

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
    kind = AsyncTask if inspect.iscoroutinefunction(func) else SyncTask
    return kind(func, name or str(getattr(func, "__name__", type(func).__name__)), retry)


class _TaskFunction(ABC):
    """A function whose results are kept. An object, and not a function around one: that would be shipped by value with
    all of this module where its function is."""

    def __init__(self, func: Callable[..., Any], name: str, retry: RetryPolicy | None) -> None:
        functools.update_wrapper(self, func)
        self._func = func
        self._name = name
        self._retry = retry

    @abstractmethod
    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call it, or give what was kept."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # By reference where its module names it, as the function itself would travel.
        module, name = self.__module__, str(getattr(self, "__qualname__", ""))
        if module != "__main__" and _found(module, name) is self:
            return name
        return super().__reduce_ex__(protocol)

    def _again(self, error: Exception, attempt: int) -> bool:
        policy = self._retry
        return policy is not None and attempt < policy.max_attempts and policy.retries(error)

    def _pause(self, attempt: int) -> float:
        return self._retry.wait(attempt) if self._retry is not None else 0.0


class SyncTask(_TaskFunction):
    """One that is called."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        scope = SCOPE.get()
        if scope is None or TASK_CALL.get() is not None:
            return self._func(*args, **named)
        index, recorded = scope.begin(CallKind.TASK, self._name)
        if recorded is None:
            recorded = scope.confirm(index, CallKind.TASK, self._name, scope.desk.wait(scope.enter(index)))
        if recorded is None:
            with scope.noting(index):
                result = self._run(scope, index, args, named)
                call = Call(CallKind.TASK, self._name, result, scope.measuring.of(index))
                recorded = scope.desk.wait(scope.record(index, call))
        scope.keep(index, recorded)
        return recorded.value

    def _run(self, scope: Scope, index: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        attempt = 1
        while True:
            try:
                with scope.calling(index):
                    return self._func(*args, **named)
            except Exception as error:
                if not self._again(error, attempt):
                    raise
            time.sleep(self._pause(attempt))
            attempt += 1


class AsyncTask(_TaskFunction):
    """One that is awaited."""

    async def __call__(self, *args: Any, **named: Any) -> Any:
        scope = SCOPE.get()
        if scope is None or TASK_CALL.get() is not None:
            return await self._func(*args, **named)
        index, recorded = scope.begin(CallKind.TASK, self._name)
        if recorded is None:
            recorded = scope.confirm(index, CallKind.TASK, self._name, await _answered(scope, scope.enter(index)))
        if recorded is None:
            with scope.noting(index):
                result = await self._run(scope, index, args, named)
                call = Call(CallKind.TASK, self._name, result, scope.measuring.of(index))
                recorded = await _answered(scope, scope.record(index, call))
        scope.keep(index, recorded)
        return recorded.value

    async def _run(self, scope: Scope, index: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        attempt = 1
        while True:
            try:
                with scope.calling(index):
                    return await self._func(*args, **named)
            except Exception as error:
                if not self._again(error, attempt):
                    raise
            await asyncio.sleep(self._pause(attempt))
            attempt += 1


def _found(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


async def _answered(scope: Scope, answer: Future[Any]) -> Any:
    if not answer.done():
        scope.desk.hurry()
    return await asyncio.wrap_future(answer)
