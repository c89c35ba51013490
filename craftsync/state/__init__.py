"""The state kept between runs: one SQLite database for each linked folder.

Nothing here decides or transfers anything. If the database is lost, the next
run merges both sides without deleting (rule 8 of docs/architecture.md).
"""

from craftsync.state.pair import PairState, known_pairs, pair_folder

__all__ = ["PairState", "known_pairs", "pair_folder"]
