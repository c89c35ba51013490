"""Bugs that show over several runs: crashes, power cuts, events, retention, migration."""

from __future__ import annotations

from tests.zoo.mutation import Mutation

MUTATIONS = (
    Mutation(
        "an upload is recorded before its file survives a power cut",
        28,
        "if done & made or any(map(self._may_be_lost, finished)):",
        "if done & made:",
        (
            "simulator/test_simulator.py::test_an_upload_is_recorded_only_once_its_file_survives_a_power_cut",
        ),
    ),
    Mutation(
        "what a killed run put in place is recorded before it survives a power cut",
        28,
        "            self.root.sync()\n            self.state.baseline.put(rows)",
        "            self.state.baseline.put(rows)",
        (
            "simulator/test_simulator.py::test_what_a_killed_run_put_in_place_is_recorded_only_once_it_survives_a_power_cut",
        ),
    ),
    Mutation(
        "a file whose content a power cut took is in sync by its times",
        28,
        "digest)._replace(racy=True)\n                return row, (intent,)",
        "digest)\n                return row, (intent,)",
        (
            "simulator/test_simulator.py::test_a_file_whose_content_a_power_cut_took_is_not_in_sync_by_its_times",
        ),
    ),
    Mutation(
        "an object of the size and time of an unrecorded write is taken for it",
        None,
        "return contents.remote_digest() == intent.digest",
        "return True",
        (
            "simulator/test_simulator.py::test_anothers_object_of_the_same_size_and_time_is_not_taken_for_an_own_write",
        ),
    ),
    Mutation(
        "an unrecorded write is forgotten by the next run",
        43,
        "return tuple(Intent(row[0], LocalFile._make(row[2:]), row[1]) for row in rows)",
        "return ()",
        (
            "scenario/test_intents.py::test_a_write_that_was_not_recorded_is_recognised_after_an_edit",
            "scenario/test_intents.py::test_one_writer_gets_no_conflict_copy_however_often_it_crashes",
        ),
    ),
    Mutation(
        "an intent never ends",
        None,
        "        if self._before or self._began:\n",
        "        if False:\n",
        ("scenario/test_intents.py::test_an_intent_ends_when_its_path_is_agreed_on",),
    ),
    Mutation(
        "a download that a crash left unrecorded is a file of its own",
        42,
        "if (file := stat(row[0])) is not None and (row[-1] or file.inode == row[2])",
        "if False",
        (
            "scenario/test_crash.py::test_an_edit_of_a_download_that_a_crash_left_unrecorded_is_no_conflict",
        ),
    ),
    Mutation(
        "a conflict copy replaces one that the store has under its name",
        None,
        "                if there is not None and not self._stores(there, found.size, digest):\n                    continue\n",
        "",
        (
            "scenario/test_intents.py::test_a_conflict_copy_takes_no_name_that_the_store_has_already",
        ),
    ),
    Mutation(
        "a conflict copy is taken for a file that the folder has under its name",
        None,
        "                if not self._is_free_or_holds(copy, digest):\n                    continue\n",
        "",
        (
            "scenario/test_intents.py::test_a_conflict_copy_takes_no_name_that_only_the_folder_has_already",
        ),
    ),
    Mutation(
        "a file of the same size and time is taken for a rename",
        None,
        "if not self._holds(remote, row):",
        "if False:",
        (
            "scenario/test_intents.py::test_another_file_of_the_same_size_and_time_is_not_taken_for_a_rename",
        ),
    ),
    Mutation(
        "deletes decided at the last look pass by the guard",
        36,
        "if kind in _DELETES and action.kind not in _DELETES and not self.dry_run:",
        "if False:",
        ("scenario/test_attacks.py::test_deletes_decided_at_the_last_look_go_through_the_guard",),
    ),
    Mutation(
        "a download is resumed in a file that is gone",
        None,
        "if saved and saved.part_size == PART and self._root.has_temporary(saved.temporary):",
        "if saved and saved.part_size == PART:",
        ("scenario/test_attacks.py::test_a_download_whose_unfinished_file_is_gone_begins_anew",),
    ),
    Mutation(
        "when a part fails the others still write into the closed file",
        None,
        "                part.cancel()\n            wait(parts)\n",
        "                part.cancel()\n",
        (
            "unit/test_content.py::test_when_the_first_part_fails_the_others_have_ended_before_their_file_is_closed",
        ),
    ),
    Mutation(
        "bytes of a try that failed count as moved",
        None,
        "        if kind is not None:\n            self.undo()",
        "        return",
        (
            "unit/test_limiter.py::test_bytes_count_when_they_have_moved_and_not_when_their_attempt_fails",
        ),
    ),
    Mutation(
        "the trash is purged while the clock has jumped",
        51,
        "        if reason is None:\n            self._prune_history()",
        "        if True:\n            self._prune_history()",
        (
            "scenario/test_retention.py::test_after_the_clock_jumped_nothing_goes_until_it_has_agreed_for_an_hour",
        ),
    ),
    Mutation(
        "time in which the machine was suspended looks like a jump of the clock",
        51,
        "_Seen(self.clock.now_ns(), self.clock.boottime(), boot_id())",
        "_Seen(self.clock.now_ns(), self.clock.monotonic(), boot_id())",
        (
            "scenario/test_retention.py::test_after_the_machine_was_suspended_retention_continues_at_once",
        ),
    ),
    Mutation(
        "a version is purged while a person or an unfinished run needs it",
        None,
        '" WHERE side <> ? AND path NOT IN (SELECT path FROM spared) ORDER BY at_ns LIMIT ?"',
        '" WHERE side <> ? ORDER BY at_ns LIMIT ?"',
        (
            "scenario/test_retention.py::test_no_version_goes_while_a_conflict_copy_of_its_path_waits",
            "scenario/test_retention.py::test_no_version_goes_while_an_unfinished_run_refers_to_its_path",
        ),
    ),
    Mutation(
        "a version of another client counts as this one's and is not kept",
        None,
        "not row.uploaded or row.version is None",
        "row.version is None",
        (
            "scenario/test_retention.py::test_a_version_of_another_client_is_kept_there_when_it_was_downloaded_before",
        ),
    ),
    Mutation(
        "a clock that was set back keeps an event of deletes open",
        51,
        "is_over = abs(now_ns - last_ns) >=",
        "is_over = now_ns - last_ns >=",
        ("scenario/test_delete_events.py::test_a_clock_that_was_set_back_keeps_no_event_open",),
    ),
    Mutation(
        "an event of deletes ends by waiting while some of it are held",
        36,
        ">= EVENT_SECONDS * 10**9 and not self._is_held(kind)",
        ">= EVENT_SECONDS * 10**9",
        (
            "scenario/test_delete_events.py::test_rejecting_brings_back_the_whole_event_however_long_it_was_held",
        ),
    ),
    Mutation(
        "deletes of killed runs do not count for the guard",
        36,
        "            self.state.events.add(self.state.cut_off.went(self.now_ns), self.options.delete_limit)\n",
        "            self.state.cut_off.went(self.now_ns)\n",
        (
            "scenario/test_cut_off_deletes.py::test_deletes_of_killed_runs_count_with_the_next_and_can_be_rejected",
        ),
    ),
    Mutation(
        "an undo takes back what was changed since",
        None,
        "if found is None or not self._is_here(one.left, found, row):",
        "if found is None:",
        (
            "scenario/test_undo.py::test_paths_that_have_changed_since_on_either_side_stay_and_are_listed",
        ),
    ),
    Mutation(
        "a deletion is handed out as soon as an edit",
        8,
        "DELETION_PATIENCE = 1.0",
        "DELETION_PATIENCE = 0.0",
        ("unit/test_watching_dirty.py::test_a_deletion_rests_longer_than_an_edit",),
    ),
    Mutation(
        "a storm of events is kept path by path",
        55,
        "_CROWD = 100",
        "_CROWD = 1_000_000_000",
        ("unit/test_watching_dirty.py::test_a_crowd_in_one_folder_becomes_the_folder",),
    ),
    Mutation(
        "an ignore file may hold any number of patterns",
        None,
        "if len(self.lines) > MOST_PATTERNS:",
        "if False:",
        ("unit/test_patterns.py::test_too_many_patterns_are_refused",),
    ),
    Mutation(
        "a migration copies content that is not what its source says",
        70,
        "    if found.digest not in (None, content.digest):\n        raise damaged",
        "    if False:\n        raise damaged",
        (
            "unit/test_migrate_content.py::test_a_small_object_that_is_not_what_the_source_says_is_refused",
        ),
    ),
    Mutation(
        "a migration mixes two versions of an object",
        64,
        "with store.read(source.path, expect=source, offset=offset, length=rest) as reader:",
        "with store.read(source.path, offset=offset, length=rest) as reader:",
        ("unit/test_migrate_content.py::test_another_version_is_never_mixed_in",),
    ),
    Mutation(
        "a migration carries out any number of deletes",
        70,
        'reason = reason_to_hold(counts, replace(asked, spent=spent), "source")',
        "reason = None",
        ("scenario/test_migrate.py::test_many_deletes_are_held",),
    ),
    Mutation(
        "an edit through one hard link is seen under one name only",
        13,
        "return stat.S_ISREG(status.st_mode) and status.st_nlink > 1",
        "return False",
        (
            "scenario/test_watching_cycles.py::test_an_edit_through_one_hard_link_uploads_the_file_under_all_its_names",
        ),
    ),
    Mutation(
        "two normal forms of a name are one file",
        24,
        "        path = prefix + name\n        if name != entry.name:",
        '        path = prefix + __import__("unicodedata").normalize("NFC", name)\n        if name != entry.name:',
        ("scenario/test_two_way.py::test_accents_in_both_normal_forms_are_two_files",),
    ),
    Mutation(
        "an own download looks like an edit",
        29,
        "return after._replace(size=before.size, mtime_ns=before.mtime_ns)",
        "return before",
        ("unit/test_folder.py::test_a_new_file_gets_its_folders_its_times_and_the_usual_mode",),
    ),
    Mutation(
        "a database that is none is an error for ever",
        44,
        "_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)",
        "_DAMAGE = (sqlite3.SQLITE_CORRUPT,)",
        ("scenario/test_disasters.py::test_a_damaged_database_is_set_aside_and_deletes_nothing",),
    ),
    Mutation(
        "a flipped bit in a text of the database is a traceback",
        44,
        '    if isinstance(error, UnicodeDecodeError) or str(error).startswith("Could not decode"):\n        return True\n',
        "",
        (
            "cli/test_cli_damaged_state.py::test_a_path_that_is_no_longer_utf8_is_damage_and_the_next_run_heals_it",
        ),
    ),
    Mutation(
        "a full disk is taken for a damaged database",
        45,
        "_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)",
        "_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FULL)",
        (
            "scenario/test_state_disk.py::test_a_pass_that_a_full_disk_ended_goes_on_when_there_is_room",
        ),
    ),
    Mutation(
        "a store inside the folder is accepted",
        47,
        '    if found is not None:\n        raise UsageError(\n            f"The store {location} {found}',
        '    if False:\n        raise UsageError(\n            f"The store {location} {found}',
        ("unit/test_locations.py::test_root_and_store_must_not_contain_each_other",),
    ),
    Mutation(
        "a stop does not end the hashing of a large file",
        60,
        "        if self._cancelled:\n            raise Interrupted\n        with self._lock:\n            self.size += size",
        "        with self._lock:\n            self.size += size",
        ("unit/test_content.py::test_a_stop_ends_the_hashing_of_a_large_file",),
    ),
    Mutation(
        "a store out of reach is tried as often as ever",
        61,
        "self._wait = min(longest, max(self._first, self._wait * 2))",
        "self._wait = self._first",
        (
            "unit/test_watching_cadence.py::test_tries_become_rarer_up_to_a_bound_until_one_succeeds",
        ),
    ),
    Mutation(
        "a time beyond 2262 is more than the database holds",
        None,
        "return -LIMIT if time_ns < 0 else LIMIT - 1",
        "return time_ns",
        (
            "cli/test_cli_extreme_numbers.py::test_a_file_with_an_extreme_time_is_synced_and_then_unchanged",
        ),
    ),
    Mutation(
        "a clock behind the newest version purges",
        51,
        "is_behind = now.wall_ns < newest and newest > known",
        "is_behind = False",
        ("scenario/test_retention.py::test_a_clock_behind_the_newest_version_removes_nothing",),
    ),
    Mutation(
        "scrub believes what the folder holds",
        None,
        "        return digest == agreed",
        "        return True",
        (
            "cli/test_cli_scrub.py::test_damage_no_run_would_find_is_named_with_its_side_and_nothing_is_touched",
        ),
    ),
    Mutation(
        "the tenth version of a run is older than the second",
        None,
        "return (match[1], int(match[2] or 1)) if match else (stamp, 1)",
        "return (stamp, 1)",
        ("scenario/test_trash.py::test_the_tenth_version_of_a_run_is_newer_than_the_second",),
    ),
    Mutation(
        "standard output is rewound",
        None,
        "    if can_seek and not _is_standard_stream(file):",
        "    if can_seek:",
        ("cli/test_cli_objects.py::test_get_to_standard_output_continues_the_file_behind_it",),
    ),
    Mutation(
        "a download is put in place though it is not what its digest says",
        62,
        "if size != remote.size or found.digest not in (None, digest):",
        "if size != remote.size:",
        ("unit/test_content.py::test_content_that_is_not_what_its_digest_says_is_refused",),
    ),
    Mutation(
        "a lock whose file was removed excludes nobody",
        46,
        "            if linux.fstat(descriptor).st_nlink:\n                return descriptor",
        "            return descriptor",
        (
            "unit/test_folder.py::test_a_lock_whose_file_is_removed_while_it_is_taken_still_excludes_others",
        ),
    ),
    Mutation(
        "downloads are put in place before they survive a power cut",
        28,
        "            if staged or parts:\n                self._root.sync()\n",
        "",
        ("scenario/test_recording.py::test_a_download_is_on_the_disk_before_it_gets_its_name",),
    ),
)
