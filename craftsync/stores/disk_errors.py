"""What the disk says of a folder, as errors of the directory store that lives in it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from craftsync.core.paths import is_own
from craftsync.errors import (
    CraftsyncError,
    ListingBroken,
    NoSpace,
    PathDenied,
    PathError,
    RootError,
    StoreDenied,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


_PERMISSIONS = _DENIED - {errno.EROFS}
_PERMISSIONS_REMEDY = "Check the owner and the permissions of the %s."


@contextmanager
def translated(store: str, path: str | None = None) -> Iterator[None]:
    """Turn what went wrong with the folder or the disk into an error of the store.

    With `path`, permissions that forbid it concern that path alone
    (`PathDenied`), unless it is craftsync's own.
    """
    try:
        yield
    except RootError as error:
        raise whole_store_error(error) from error
    except OSError as error:
        raise error_of(error, store) from error
    except NoSpace as error:
        raise StoreFull(f"{store}: {error}", remedy=error.remedy) from error
    except PathError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or type(error) is not PathError:
            raise
        what = f"{store}: {error}".removesuffix(f": {cause.strerror}")
        if path is not None and cause.errno in _PERMISSIONS and not is_own(path):
            remedy = _PERMISSIONS_REMEDY % "file and of the folders it is in"
            raise PathDenied(f"{what}: {cause.strerror}.", remedy=remedy) from error
        raise error_of(cause, what) from error


def error_of(error: OSError, what: str) -> CraftsyncError:
    reason = error.strerror or str(error)
    sentence = f"{what}." if what.endswith(reason) else f"{what}: {reason}."
    if error.errno == errno.EROFS:
        return StoreDenied(sentence, remedy="Mount the disk so that it can be written to.")
    if error.errno in _FULL:
        return StoreFull(sentence, remedy="Make room on its disk.")
    if error.errno in _DENIED:
        return StoreDenied(sentence, remedy=_PERMISSIONS_REMEDY % "folder")
    return StoreUnavailable(sentence, ambiguous=False)


def whole_store_error(error: RootError) -> CraftsyncError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _DENIED:
        return StoreDenied(str(error), remedy=error.remedy)
    return StoreMissing(str(error), remedy=error.remedy)


def listing_error(error: RootError) -> CraftsyncError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno not in _DENIED | {errno.ENOENT, errno.ENOTDIR}:
        return ListingBroken(str(error), remedy=error.remedy)
    return whole_store_error(error)
