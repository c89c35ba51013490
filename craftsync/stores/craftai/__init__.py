"""The data store of a Craft AI environment, through the platform's API and an SDK token."""

from craftsync.stores.craftai.platform import CONTROL_URL, Access
from craftsync.stores.craftai.store import CraftAiStore, Limits

__all__ = ["CONTROL_URL", "Access", "CraftAiStore", "Limits"]
