"""Plan files as earlier versions of craftsync wrote them."""

from __future__ import annotations

import json

from tests.support.cli import Run


def as_older_versions_wrote_it(planned: Run) -> bytes:
    """Return a plan that deletes one object and replaces another as a rename of the first onto the second."""
    header, *steps = planned.json
    (deleted,) = (step for step in steps if step["action"] == "delete-remote")
    (replaced,) = (step for step in steps if step["action"] == "upload")
    assert replaced["remote"] is not None
    renamed = replaced | {"action": "move-remote", "source": deleted["path"]}
    return "".join(f"{json.dumps(line)}\n" for line in (header, renamed)).encode()
