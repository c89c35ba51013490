"""What the trash of a store holds after a change, for those who change single objects."""

from __future__ import annotations

from contextlib import suppress

from craftsync.core.model import OWN_FOLDER, RemoteObject
from craftsync.errors import CraftsyncError
from craftsync.stores.base import Store


def kept(store: Store, stamp: str, path: str) -> RemoteObject | None:
    """Return what the trash holds of `path` under a stamp; `None` if a change that was to keep it met nothing.

    A bucket's own versions are not in the trash. A store that cannot tell now is
    no error: the change itself was made.
    """
    if store.features.keeps_versions:
        return None
    with suppress(CraftsyncError):
        return store.stat(f"{OWN_FOLDER}/trash/{stamp}/{path}")
    return None
