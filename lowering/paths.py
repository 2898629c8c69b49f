"""Paths that a user writes, which may be those of no user or longer than the system allows."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Replace `~` and `~user` at the beginning of a path. That of a user who does not exist stays, and leads to no file."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for such a user


def is_file(path: Path) -> bool:
    """Return whether there is a file; False for a path longer than the system allows. Raises OSError if the system refuses otherwise."""
    return not _is_too_long(path) and path.is_file()


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False for a path longer than the system allows. Raises OSError as `is_file` does."""
    return not _is_too_long(path) and path.is_dir()


def exists(path: Path) -> bool:
    """Return whether there is a file or folder; False for a path longer than the system allows. Raises OSError as `is_file` does."""
    return not _is_too_long(path) and path.exists()


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    except ValueError:  # a null byte, which pathlib knows
        return False
    return False
