"""Operations on objects in any store and between any two stores: list, find, copy, move, remove.

The command line, the web page and the fsspec filesystem use them. `arguments` resolves OBJECT
arguments; only the command line needs it.
"""

from craftsync.objects.copying import (
    Outcome,
    Outcomes,
    copy,
    copy_each,
    move,
    move_each,
    remove,
    remove_each,
    whereabouts,
)
from craftsync.objects.files import download_each, upload_each
from craftsync.objects.finding import (
    Entry,
    ObjectFilter,
    OnSkipped,
    below,
    find,
    listing,
    signed_url,
)
from craftsync.stores.sources import at_once

__all__ = [
    "Entry",
    "ObjectFilter",
    "OnSkipped",
    "Outcome",
    "Outcomes",
    "at_once",
    "below",
    "copy",
    "copy_each",
    "download_each",
    "find",
    "listing",
    "move",
    "move_each",
    "remove",
    "remove_each",
    "signed_url",
    "upload_each",
    "whereabouts",
]
