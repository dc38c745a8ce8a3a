"""The code packages that are unpacked on this machine: each once, for as long as a process uses it.

Who uses a package holds its lock, shared, to its own end: the kernel frees it, however that comes. Who removes one
holds the lock alone. All in one folder of the user, below the system's temporary one.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from datetime import timedelta
from pathlib import Path

from .errors import GraphLoadError
from .packages import PACKAGE

KEPT = timedelta(days=1)
"""How long a package that nobody uses is kept after a process has last begun to use it: the next need not unpack it."""
MOST = 1024 * 1024 * 1024
"""Bytes that the packages which nobody uses may take up, all in all; beyond it the oldest go before their time."""
_DRAFT = "draft-"
_LOCK = ".lock"


def unpacked(key: str, data: bytes) -> Path:
    """The folder with a package's files, on this machine, unpacked if need be; it stays as long as this process lives.
    Raises `GraphLoadError` for one that is not what its key says."""
    if key != f"{PACKAGE}-{hashlib.sha256(data).hexdigest()}":
        raise GraphLoadError(key, "the package is not the one that was shipped; submit the graph again")
    folder = _root(key) / key
    if str(folder) in sys.path:
        return folder  # in use here, and locked
    lock = _lock(_lock_of(folder), fcntl.LOCK_SH)
    try:
        if not folder.is_dir():
            _unpack(data, folder)
        os.utime(folder)
    except BaseException:
        os.close(lock)
        raise
    return folder  # the lock stays open: the end of the process frees it


def _unpack(data: bytes, folder: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=folder.parent))
    lock = _lock(_lock_of(draft), fcntl.LOCK_SH)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(draft)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(draft)  # another process was first
    finally:
        _lock_of(draft).unlink(missing_ok=True)
        os.close(lock)


def use(folder: Path, *, working_dir: bool) -> None:
    """Import from a package from now on; before what is installed, as it is what the user has asked for."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if working_dir:
        os.chdir(folder)


def remove_unused(kept: timedelta = KEPT, most: int = MOST) -> list[Path]:
    """Remove the packages that no living process uses: those older than `kept`, and of the others the oldest until the
    rest takes up no more than `most` bytes. Also what is left of a process that died while it unpacked. The folders
    that are gone."""
    root = _folder()
    if not root.is_dir():
        return []
    now, removed, total = time.time(), [], 0
    for folder in sorted(_folders(root), key=_used, reverse=True):
        lock = _try_lock(_lock_of(folder))
        if lock is None:
            continue  # in use
        try:
            total += _size(folder)
            if total > most or now - _used(folder) > kept.total_seconds():
                shutil.rmtree(folder)
                removed.append(folder)
                _lock_of(folder).unlink()
        finally:
            os.close(lock)
    return removed


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"perdure-code-{os.getuid()}"


def _root(key: str) -> Path:
    root = _folder()
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise GraphLoadError(key, f"{root} belongs to another user; set TMPDIR to a folder of your own")
    root.chmod(0o700)
    return root


def _folders(root: Path) -> list[Path]:
    """The folders of packages, unpacked or in the making."""
    prefixes = (f"{PACKAGE}-", _DRAFT)
    return [one for one in root.iterdir() if one.name.startswith(prefixes) and one.is_dir() and not one.is_symlink()]


def _used(folder: Path) -> float:
    """When a process last began to use it (Unix seconds); 0 if it is gone."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    return sum(one.lstat().st_size for one in folder.rglob("*") if one.is_file())


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _lock(path: Path, kind: int) -> int:
    """Lock a file; the descriptor that holds the lock. Waits for who removes the package, and whose file is gone then;
    raises `BlockingIOError` instead if `kind` has LOCK_NB."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # removed with its package; the next one is ours
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    try:
        return _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
