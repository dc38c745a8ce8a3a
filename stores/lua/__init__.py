"""The scripts that Redis runs, by name: the text of `stores/lua/<name>.lua`."""

from __future__ import annotations

from importlib.resources import files

_OF_A_THREAD = (
    "adopt",
    "amend",
    "claim",
    "commit",
    "create",
    "delete",
    "deliver",
    "forks",
    "graft",
    "image",
    "load",
    "messages",
    "register",
    "rewrite",
    "runs",
    "segments",
    "unregister",
)
_OTHERS = ("open", "probe", "renew", "rows", "sizes", "sweep")


def scripts() -> dict[str, str]:
    """All of them; those of a thread after what they share."""
    texts = {name: _text(name) for name in (*_OF_A_THREAD, *_OTHERS)}
    shared = _text("thread")
    return {name: shared + text if name in _OF_A_THREAD else text for name, text in texts.items()}


def _text(name: str) -> str:
    return (files(__package__) / f"{name}.lua").read_text(encoding="utf-8")
