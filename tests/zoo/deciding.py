"""Bugs in what is decided about a path, and in which deletes are held."""

from __future__ import annotations

from tests.zoo.mutation import Mutation

_TABLE = "test_decision_for_every_state_of_one_path_in_each_mode"

MUTATIONS = (
    Mutation(
        "an edit in the same tick as the scan is not seen",
        4,
        "return local == row[:5] and not row.racy",
        "return local == row[:5]",
        ("test_racy_baseline_row_is_verified_by_hashing",),
    ),
    Mutation(
        "an edit right after the stat that keeps size and time is in sync",
        4,
        "                and not row[5]\n",
        "",
        ("test_an_edit_in_the_tick_of_the_last_stat_is_seen",),
    ),
    Mutation(
        "an edit that sets its mtime back is not seen",
        5,
        "return local == row[:5] and not row.racy",
        "return local[:3] == row[:3] and not row.racy",
        ("test_any_fingerprint_difference_is_a_change",),
    ),
    Mutation(
        "an edit of the same size that sets its mtime back counts as unchanged",
        5,
        "                and local == row[:5]\n",
        "                and local is not None\n                and local[:3] == row[:3]\n",
        ("test_edit_of_equal_size_with_restored_mtime_is_detected",),
    ),
    Mutation(
        "an object is told by its size alone",
        None,
        "return remote.modified_ns is not None and remote.modified_ns == row.modified_ns",
        "return True",
        ("test_object_without_version_is_compared_by_size_and_time",),
    ),
    Mutation(
        "a deletion in the store beats an edit in the folder",
        None,
        'return Decision(Kind.UPLOAD, "an edit in the folder beats a deletion in the store")',
        'return Decision(Kind.DELETE_LOCAL, "the object was deleted in the store")',
        (_TABLE,),
    ),
    Mutation(
        "where both sides changed the folder wins without a copy",
        None,
        'return Decision(Kind.RECONCILE, "both sides changed")',
        'return Decision(Kind.UPLOAD, "the file changed in the folder")',
        (
            _TABLE,
            "test_without_a_baseline_two_way_never_deletes_or_overwrites",
        ),
    ),
    Mutation(
        "a push deletes without being asked to",
        None,
        "        case ((Look.NONE | Look.GONE), _) if delete:\n",
        "        case ((Look.NONE | Look.GONE), _):\n",
        (_TABLE,),
    ),
    Mutation(
        "without a last synced state what only the store has is deleted",
        40,
        'return Decision(Kind.DOWNLOAD, "the object is new in the store")',
        'return Decision(Kind.DELETE_REMOTE, "the object is new in the store")',
        ("test_without_a_baseline_two_way_never_deletes_or_overwrites",),
    ),
    Mutation(
        "equal content on both sides of a first run is a conflict",
        40,
        "            return Settled(None, self._row_of(local, remote, contents))\n        here",
        "            pass\n        here",
        ("test_equal_content_is_adopted_and_nothing_moves",),
    ),
    Mutation(
        "a path that is ignored from now on counts as deleted",
        41,
        "if local is None and path not in gone_here and ignored(path):",
        "if False:",
        ("test_ignored_paths_take_no_part_on_either_side_and_are_never_deleted",),
    ),
    Mutation(
        "a mass deletion is carried out",
        36,
        "return deletes + self.spent <= max(self.files, int(self.share * baseline))",
        "return True",
        ("test_too_many_deletes_are_held_while_the_rest_continues",),
    ),
    Mutation(
        "deletions that trickle in are each harmless",
        36,
        "return deletes + self.spent <= max(",
        "return deletes <= max(",
        ("test_deletes_of_runs_shortly_after_each_other_are_judged_as_one_event",),
    ),
    Mutation(
        "a folder that is suddenly empty empties the store",
        32,
        "        return self.listed == 0 and (",
        "        return False and (",
        ("test_a_root_suddenly_empty_deletes_nothing",),
    ),
    Mutation(
        "a one-way run from an empty folder without a last synced state empties the store",
        None,
        "(self.baseline > 1 or self.deletes > self.baseline)",
        "self.baseline > 1",
        ("test_push_delete_from_an_empty_folder_without_baseline_is_held",),
    ),
    Mutation(
        "a folder that lost its identity file is scanned",
        31,
        '    if known is not None and found != known:\n        what = "lost its mark" if found is None else "is not the folder',
        '    if False:\n        what = "lost its mark" if found is None else "is not the folder',
        ("test_another_folder_in_the_place_of_the_root_is_refused",),
    ),
    Mutation(
        "a store that lost its identity file is listed",
        34,
        'known = state.database.get("store_id")\n    if known is not None and found != known:\n',
        'known = state.database.get("store_id")\n    if False:\n',
        ("test_store_that_lost_its_identity_file_is_rejected",),
    ),
    Mutation(
        "something is made in the empty mount point of a folder that is away",
        31,
        "if has_file and root.read_mark(ROOT_MARK) is None:",
        "if False:",
        ("test_nothing_is_created_in_an_unmounted_folders_mount_point",),
    ),
    Mutation(
        "a path missing from a listing is forgotten while it is there",
        38,
        "        if self.store.stat(action.path) is not None:\n            raise PreconditionFailed(action.path)\n        return Outcome",
        "        return Outcome",
        ("test_unlisted_path_that_still_exists_is_not_forgotten",),
    ),
    Mutation(
        "an object that a listing left out is deleted in the folder",
        69,
        "        if self.store.stat(action.path) is not None:\n            raise PreconditionFailed(action.path)\n        self.root.displace",
        "        self.root.displace",
        ("test_stale_listing_deletes_nothing",),
    ),
    Mutation(
        "keys beside .craftsync in a nested folder count as ordinary",
        None,
        'return OWN_FOLDER in path and f"/{OWN_FOLDER}/" in f"/{path}/"',
        'return path == OWN_FOLDER or path.startswith(f"{OWN_FOLDER}/")',
        ("test_craftsync_folder_is_reserved_at_any_depth",),
    ),
)
