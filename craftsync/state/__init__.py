"""What craftsync remembers between two runs: one SQLite database for each pair.

Nothing here decides or transfers anything; losing a database costs a run that
merges both sides without deleting, never a file (rule 8 of docs/architecture.md).
"""

from craftsync.state.pair import PairState, known_conflicts, known_pairs, pair_folder

__all__ = ["PairState", "known_conflicts", "known_pairs", "pair_folder"]
