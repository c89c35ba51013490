"""Which paths of a pair are not in step: what one pass says holds until a later one says otherwise."""

from __future__ import annotations

from collections import Counter

from craftsync.sync.report import ActionEvent, Event, HeldEvent, Issue, IssueEvent

_MOST_PATHS = 10_000
"""More are only counted: nobody reads them, and memory must not grow with them."""

_FOR_PEOPLE = (Issue.CONFLICT, Issue.HELD, Issue.PROBLEM)


class Waiting:
    """The issues that wait for a person. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[str, IssueEvent] = {}
        self._found: dict[str, IssueEvent] = {}
        self._uncounted: Counter[Issue] = Counter()
        self._beyond: Counter[Issue] = Counter()
        self._has_new_held = False

    def note(self, event: Event) -> None:
        """Take in one event of the pass under way."""
        if isinstance(event, ActionEvent):
            self._known.pop(event.path, None)
        elif isinstance(event, IssueEvent) and event.issue in _FOR_PEOPLE:
            if event.issue is Issue.HELD and not self._beyond[Issue.HELD]:
                self._has_new_held |= self._is_new(event.path, event)
            if len(self._found) < _MOST_PATHS:
                self._found[event.path] = event
            else:
                self._uncounted[event.issue] += 1

    def knows(self, event: Event) -> bool:
        """Return whether an earlier run said the same: of held deletes, whether none of them is new.

        Why deletes are held is said in ever other numbers.
        """
        if isinstance(event, HeldEvent):
            has_new, self._has_new_held = self._has_new_held, False
            return not has_new
        if not isinstance(event, IssueEvent):
            return False
        known = self._known.get(event.path)
        return known == event or (event.issue is Issue.HELD and not self._is_new(event.path, event))

    def pass_ended(self, *, complete: bool) -> list[IssueEvent]:
        """Take over what the pass found; a complete one clears what it did not find again.

        Returns the issues that were not there before.
        """
        new = [event for path, event in self._found.items() if self._is_new(path, event)]
        if complete:
            self._known, self._beyond = {}, Counter()
        self._known |= self._found
        self._beyond += self._uncounted
        self._found, self._uncounted = {}, Counter()
        return new

    def count(self, issue: Issue) -> int:
        return self._beyond[issue] + sum(event.issue is issue for event in self._known.values())

    def first(self, most: int) -> list[IssueEvent]:
        """Return at most so many of them, in order of path."""
        return [self._known[path] for path in sorted(self._known)[:most]]

    def _is_new(self, path: str, event: IssueEvent) -> bool:
        known = self._known.get(path)
        return known is None or known.issue is not event.issue
