"""Code packages: what a graph's `runtime_env` brings along, kept in the store.

Ray would keep them in its head, from where they are gone when the cluster is started anew or nothing has used them for
a while; threads live longer than both. So a package is put into the store under the hash of what it holds, and each
process that needs it unpacks it on its own node (`unpacking`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..stores.records import GraphRecord
from .errors import GraphNotShippable

PACKAGE = "package"
"""Kind of the record that holds a package."""
LARGEST = 64 * 1024 * 1024
"""Bytes that a package may have, packed."""
_LEFT_OUT = frozenset({".git", ".hg", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_DATE = (1980, 1, 1, 0, 0, 0)
"""The same for every file, so that the same code has the same hash."""
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A runtime environment as it is shipped."""

    package: GraphRecord | None = None
    """What was on this machine's disk."""
    working_dir: bool = False
    """The package is the folder that nodes run in."""
    rest: dict[str, Any] = field(default_factory=dict)
    """What Ray sees to itself: `pip`, `env_vars`, packages by URL, ..."""


def pack_code(runtime_env: Mapping[str, Any]) -> Code:
    """Read a runtime environment in Ray's form. Local folders and wheels of `py_modules` and `working_dir` are packed;
    `excludes` (patterns of paths in a package) are left out. Raises `GraphNotShippable`."""
    rest = dict(runtime_env)
    excludes = [str(pattern) for pattern in rest.pop("excludes", ())]
    modules = rest.pop("py_modules", [])
    remote = [one for one in modules if isinstance(one, str) and _REMOTE.match(one)]
    if remote:
        rest["py_modules"] = remote
    files: dict[str, Path] = {}
    working_dir = rest.get("working_dir")
    if isinstance(working_dir, (str, os.PathLike)) and not _REMOTE.match(str(working_dir)):
        del rest["working_dir"]
        files.update(_files(_folder(working_dir), "", excludes))
    else:
        working_dir = None
    wheels: list[Path] = []
    for module in modules:
        if module in remote:
            continue
        place = _place(module)
        if place.suffix == ".whl":
            wheels.append(place)
        elif place.is_file():
            files[place.name] = place
        else:
            files.update(_files(_folder(place), place.name, excludes))
    try:
        msgspec.json.encode(rest)
    except TypeError as error:
        raise GraphNotShippable(f"the runtime environment {sorted(rest)} cannot be sent: {error}") from error
    package = _packed(files, wheels) if files or wheels else None
    return Code(package=package, working_dir=working_dir is not None, rest=rest)


def _place(module: Any) -> Path:
    """Where a module of `py_modules` is: a path, or a module that was imported."""
    if isinstance(module, (str, os.PathLike)):
        return Path(module).absolute()
    file = getattr(module, "__file__", None)
    if file is None:
        raise GraphNotShippable(f"py_modules: {module!r} is neither a path nor a module with a file")
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _folder(given: str | os.PathLike[str]) -> Path:
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise GraphNotShippable(f"the runtime environment names {folder}, which is no folder of this machine")
    return folder


def _files(root: Path, prefix: str, excludes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if name not in _LEFT_OUT)
        for name in sorted(names):
            path = Path(folder) / name
            inside = path.relative_to(root).as_posix()
            if name.endswith(".pyc") or any(fnmatch.fnmatch(inside, pattern) for pattern in excludes):
                continue
            yield (f"{prefix}/{inside}" if prefix else inside), path


def _packed(files: Mapping[str, Path], wheels: Sequence[Path]) -> GraphRecord:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            _write(archive, name, files[name].read_bytes())
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as source:
                for name in sorted(source.namelist()):
                    if not name.endswith("/"):
                        _write(archive, name, source.read(name))
    data = buffer.getvalue()
    if len(data) > LARGEST:
        raise GraphNotShippable(
            f"the code that goes along is {len(data):,} bytes, packed, of which the store keeps at most {LARGEST:,}: "
            "leave out what is no code with `excludes`, or install it on the nodes"
        )
    key = f"{PACKAGE}-{hashlib.sha256(data).hexdigest()}"
    return GraphRecord(graph_key=key, name=PACKAGE, version="", kind=PACKAGE, body=data)


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    archive.writestr(info, data)
