"""Bugs in what is read from and written to the folder."""

from __future__ import annotations

from tests.zoo.mutation import Mutation

MUTATIONS = (
    Mutation(
        "a source that changed while it was stored becomes an object",
        1,
        "            source.verify()\n            return self._commit",
        "            return self._commit",
        ("unit/test_folder_store.py::test_a_source_that_changed_leaves_nothing",),
    ),
    Mutation(
        "a file that changes while it is read is taken for whole",
        2,
        "if look(self._tree, path) == self.file:",
        "if look(self._tree, path) is not None:",
        ("unit/test_folder.py::test_a_file_that_changes_while_open_does_not_stand_its_check",),
    ),
    Mutation(
        "a file cut short while it is read is read as far as it goes",
        3,
        "if len(content) < length:\n            raise PathBusy(f",
        "if False:\n            raise PathBusy(f",
        ("unit/test_folder.py::test_a_file_that_gets_shorter_is_busy_and_not_short",),
    ),
    Mutation(
        "an unknown filesystem is taken to tell changes 10 ms apart",
        6,
        "else 2_000_000_000",
        "else 10_000_000",
        ("unit/test_rename.py::test_an_unknown_filesystem_is_trusted_to_two_seconds_only",),
    ),
    Mutation(
        "a device or pipe is read like a file",
        9,
        "        if not stat.S_ISREG(status.st_mode):\n            self.close()",
        "        if False:\n            self.close()",
        ("unit/test_folder.py::test_what_is_no_regular_file_is_never_opened",),
    ),
    Mutation(
        "links and special files are passed over without a word",
        9,
        "                yield _no_file(path, status.st_mode)\n",
        "",
        ("unit/test_scan.py::test_links_and_special_files_are_skipped_with_a_reason",),
    ),
    Mutation(
        "of an unreadable folder only the folder itself is unknown",
        10,
        "return Skipped(path, error.strerror or str(error), subtree=True, failed=True)",
        "return Skipped(path, error.strerror or str(error), failed=True)",
        ("unit/test_scan.py::test_what_cannot_be_read_is_unknown_and_the_rest_goes_on",),
    ),
    Mutation(
        "an unreadable folder is passed over as if it were empty",
        11,
        '            return _unreadable(path, error)\n        return self._push(listing, path, "")',
        '            return None\n        return self._push(listing, path, "")',
        ("unit/test_scan.py::test_what_cannot_be_read_is_unknown_and_the_rest_goes_on",),
    ),
    Mutation(
        "a file that vanishes during a scan counts as deleted",
        14,
        "                yield _unreadable(path, error)\n",
        "",
        ("unit/test_scan.py::test_what_vanishes_during_the_scan_is_unknown_and_not_absent",),
    ),
    Mutation(
        "a file saved in the instant of its replacement is not compared",
        16,
        "        if not _matches(_status(slot), expect):\n            _swap_back",
        "        if False:\n            _swap_back",
        ("unit/test_folder_races.py::test_a_file_saved_in_the_instant_of_its_replacement_is_kept",),
    ),
    Mutation(
        "a rename overwrites what appeared at its target",
        17,
        "target_fd, target, linux.NOREPLACE)",
        "target_fd, target, 0)",
        ("unit/test_rename.py::test_a_rename_never_replaces_anything",),
    ),
    Mutation(
        "a file saved in the instant of its removal is not compared",
        18,
        "        if not _matches(_status(slot), expect):\n            _put_back(slot, origin, expect.path)",
        "        if False:\n            _put_back(slot, origin, expect.path)",
        ("unit/test_folder_races.py::test_a_file_saved_in_the_instant_of_its_removal_is_kept",),
    ),
    Mutation(
        "a folder in the place of a deleted file is moved to the trash",
        18,
        "        return not stat.S_ISDIR(_status(place_of).st_mode)",
        "        return _status(place_of) is not None",
        ("unit/test_folder.py::test_a_folder_in_the_place_of_a_deleted_file_stays",),
    ),
    Mutation(
        "what a program wrote into the new version is removed when that is taken back",
        19,
        "    if _same_content(returned, mine):\n",
        "    if True:\n",
        (
            "unit/test_folder_races.py::"
            "test_an_edit_of_the_new_version_before_it_is_taken_back_is_kept",
        ),
    ),
    Mutation(
        "a folder that turned into a link is followed",
        20,
        "WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "WALK = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC",
        (
            "unit/test_folder_races.py::test_a_folder_that_keeps_turning_into_a_link_leads_nowhere",
            "unit/test_folder.py::test_what_lies_behind_a_link_is_refused_and_never_called_absent",
        ),
    ),
    Mutation(
        "a path may lead upwards",
        21,
        'if "." in names or ".." in names:',
        'if "." in names:',
        ("unit/test_folder.py::test_a_path_that_leads_anywhere_but_down_is_refused",),
    ),
    Mutation(
        "a path may hold a NUL",
        21,
        'if "\\0" in path:',
        "if False:",
        ("unit/test_folder_paths.py::test_a_path_no_folder_can_hold_is_refused_with_a_reason",),
    ),
    Mutation(
        "a path may have empty parts",
        21,
        'if "" in names:',
        "if False:",
        ("unit/test_folder_paths.py::test_a_path_no_folder_can_hold_is_refused_with_a_reason",),
    ),
    Mutation(
        "a conflict copy may get a name that no folder holds",
        25,
        "_shortened(stem, max(room, 1)) + tail",
        "stem + tail",
        (
            "unit/test_folder_paths.py::"
            "test_a_conflict_copy_has_a_name_any_folder_can_hold_beside_the_file",
        ),
    ),
    Mutation(
        "a path of any length is accepted",
        25,
        "if length > MAX_PATH_BYTES:",
        "if False:",
        ("unit/test_folder_paths.py::test_a_path_no_folder_can_hold_is_refused_with_a_reason",),
    ),
    Mutation(
        "free space is looked at, but not the reserve",
        26,
        "if kept and spare < 0:",
        "if kept and free - taken < size - disk.f_blocks * disk.f_frsize:",
        ("unit/test_space.py::test_two_files_that_fit_only_one_at_a_time_are_not_both_begun",),
    ),
    Mutation(
        "many downloads at once each find the same space free",
        26,
        "taken = _promised.get(self._device, 0) if promised is None else promised",
        "taken = 0",
        ("unit/test_space.py::test_two_files_that_fit_only_one_at_a_time_are_not_both_begun",),
    ),
    Mutation(
        "a filesystem that answers EINVAL has no fallback",
        27,
        "_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})",
        "_UNSUPPORTED = frozenset({errno.ENOSYS})",
        ("unit/test_rename.py::test_a_filesystem_without_renameat2_is_served_by_the_fallbacks",),
    ),
    Mutation(
        "a flush that failed counts as done",
        27,
        "            mine.error = error\n",
        "            mine.error = None\n",
        (
            "unit/test_folder_sync_group.py::"
            "test_everybody_in_a_round_hears_of_its_failure_and_the_next_round_is_new",
        ),
    ),
    Mutation(
        "files in a folder that is in the way are removed with it",
        30,
        '                    raise PathObstructed(f"{path} is a folder with files in it.")\n',
        "                    linux.unlink(entry.name, dir_fd=listing)\n                    continue\n",
        ("unit/test_folder.py::test_empty_folders_make_way_for_a_file_and_full_ones_do_not",),
    ),
    Mutation(
        "a folder that was moved away while it was scanned counts as whole",
        33,
        "if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):",
        "if False:",
        (
            "unit/test_scan.py::test_a_scan_of_a_root_that_was_moved_away_midway_is_an_error",
            "unit/test_folder.py::test_a_folder_that_was_moved_replaced_or_deleted_is_noticed",
        ),
    ),
    Mutation(
        "a second craftsync may have the folder too",
        46,
        "linux.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))",
        "linux.flock(descriptor, fcntl.LOCK_SH)",
        ("unit/test_folder.py::test_a_second_lock_is_refused_until_the_first_is_given_back",),
    ),
    Mutation(
        "a replaced file loses its permissions",
        None,
        "    linux.fchmod(temporary.fileno(), stat.S_IMODE(replaced.st_mode) & 0o777)\n",
        "",
        ("unit/test_folder.py::test_a_replaced_file_keeps_its_mode_and_is_found_in_the_trash",),
    ),
    Mutation(
        "a second version under one stamp replaces the first in the trash",
        None,
        "            except FileExistsError:\n                continue\n            except NotADirectoryError:",
        "            except FileExistsError:\n                _remove(slot)\n                move_to(*slot)\n"
        "            except NotADirectoryError:",
        ("unit/test_folder.py::test_versions_displaced_under_the_same_stamp_are_all_kept",),
    ),
)
