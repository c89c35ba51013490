"""Who asks, and which environment: all that has to be known to reach a Craft AI data store.

Where the token comes from (a variable, a file, a credential of the service) is
the business of the caller; here it is only asked for, when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONTROL_URL = "https://mlops-platform.craft.ai"
"""Where tokens are exchanged unless something else is said (craft-ai-sdk 0.74.7, sdk.py:203)."""


@dataclass(frozen=True, slots=True)
class Access:
    """An environment and the SDK token for it. `repr` does not show the token.

    `token` may be called again at any time: a token that was regenerated is
    then found where the old one was. It raises `UsageError` when there is none.
    """

    environment_url: str
    token: Callable[[], str] = field(repr=False, compare=False)
    control_url: str = CONTROL_URL

    @property
    def location(self) -> str:
        """The address of the environment as the command line takes it."""
        return f"craft-ai+{self.environment_url.rstrip('/')}"

    @property
    def name(self) -> str:
        """The environment's name: the first part of its host's name."""
        host = urlsplit(self.environment_url).hostname or "craft-ai"
        return host if host.replace(".", "").isdecimal() else host.partition(".")[0]
