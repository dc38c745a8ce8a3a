"""A process's membership in the local head's Ray."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import ray
import ray._private.worker
import ray._raylet

from .endpoint import Endpoint, HeadError

NAMESPACE = "perdure"


class Membership:
    """This process as a driver of the head's Ray; a context manager, `leave` may be called twice.

    A process can be in one Ray at a time: if it is in one already, `HeadError`. The user's SIGTERM handler and, after
    leaving, the environment are as before.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if ray.is_initialized():
            raise HeadError(
                "this process is connected to a Ray already; call ray.shutdown() first, or use "
                "connect(address='auto') to stay with that one"
            )
        # A token in the environment would win over the file.
        self._before = _swap_environment(
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(endpoint.paths.token)}
        )
        self._joined = True
        _reload_authentication()
        try:
            _connect(endpoint)
        except BaseException as error:
            self.leave()
            if isinstance(error, ConnectionError | RuntimeError):
                raise HeadError(
                    f"the local head (pid {endpoint.pid}, {endpoint.address}) cannot be joined: {error}"
                ) from error
            raise

    def leave(self) -> None:
        """Disconnect; the head and its detached actors go on."""
        if self._joined:
            self._joined = False
            ray.shutdown()
            _swap_environment(self._before)
            _reload_authentication()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


def _connect(endpoint: Endpoint) -> None:
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    debugger = _swap_environment({"PYTHONBREAKPOINT": os.environ.get("PYTHONBREAKPOINT")})
    try:
        # Quiet while connecting: that it connects, and that a thread cannot set signal handlers, is nobody's news.
        with _without_crash_reports():
            ray.init(address=endpoint.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    finally:
        logging.getLogger("ray").setLevel(logging.WARNING)
        # ray.init makes breakpoint() wait for Ray's debugger, also in the user's own program.
        _swap_environment(debugger)
        if main and handler is not None:
            # ray.init puts a handler that raises SystemExit in whatever the user's program is doing.
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _without_crash_reports() -> Iterator[None]:
    """Connect without the thread that prints every crash of a worker to the standard output of the process whose job it
    was, into whatever that process prints itself. Perdure sees to crashes; no public option leaves the thread out.
    """
    module: Any = ray._private.worker
    listen = getattr(module, "listen_error_messages", None)
    if listen is None:
        yield
        return
    module.listen_error_messages = lambda worker, stopped: None
    try:
        yield
    finally:
        module.listen_error_messages = listen


def _swap_environment(changes: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set variables (None unsets one); returns what undoes it."""
    before = {name: os.environ.get(name) for name in changes}
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def _reload_authentication() -> None:
    """Have Ray read its mode and token again: it took them from the environment when it was imported.

    No public call does that; ray.init does the same when it starts a cluster.
    """
    config = getattr(ray._raylet, "Config", None)
    loader = getattr(ray._raylet, "AuthenticationTokenLoader", None)
    if config is not None and loader is not None:
        config.initialize("")
        loader.instance().reset_cache()


class _Shared:
    """The one membership that a process can have, for all its clients."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.membership: Membership | None = None
        self.address = ""
        self.users = 0


_SHARED = _Shared()  # Ray itself is one per process


def joined(endpoint: Endpoint) -> Callable[[], None]:
    """Join the head, or share the membership that this process has in it; returns what leaves it again.

    Raises `HeadError`.
    """
    with _SHARED.lock:
        if _SHARED.membership is not None and _SHARED.address == endpoint.address and ray.is_initialized():
            _SHARED.users += 1
        else:
            _SHARED.membership, _SHARED.address, _SHARED.users = Membership(endpoint), endpoint.address, 1
        mine = _SHARED.membership

    def leave() -> None:
        with _SHARED.lock:
            if _SHARED.membership is not mine:
                return  # the user ended that one with ray.shutdown(), and there is a newer
            _SHARED.users -= 1
            if _SHARED.users == 0:
                mine.leave()
                _SHARED.membership = None

    return leave
