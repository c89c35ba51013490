"""Bugs in what is sent to a store and believed of its answers."""

from __future__ import annotations

from tests.zoo.mutation import Mutation

MUTATIONS = (
    Mutation(
        "the parts of an object are more than S3 allows",
        12,
        "MOST_PARTS = 9_000",
        "MOST_PARTS = 90_000",
        ("contract/test_s3_multipart.py::test_parts_are_as_small_as_may_be_and_never_too_many",),
    ),
    Mutation(
        "an answer that ends early is a whole answer",
        15,
        '                raise Garbled(f"the answer ended {self.left} bytes before its end")\n',
        "                self.left = 0\n                return piece\n",
        ("unit/test_connection.py::test_what_is_no_whole_answer_is_refused",),
    ),
    Mutation(
        "a range of other bytes is taken for the one asked for",
        58,
        "if (opened.start, opened.length) != (offset, wanted):",
        "if False:",
        ("contract/test_s3_faults.py::test_a_range_with_the_wrong_bytes_is_noticed",),
    ),
    Mutation(
        "a body on Craft AI that is cut short is a short result",
        15,
        '                raise self._wrong(f"{self._length - missing} of {self._length} bytes came")\n',
        "                return\n",
        ("unit/test_readers.py::test_an_object_of_craft_ai_of_another_length_is_an_error",),
    ),
    Mutation(
        "the marker of a folder hides the content it holds",
        22,
        'if item.size == 0 and (not item.path or item.path.endswith("/")):',
        'if not item.path or item.path.endswith("/"):',
        (
            "contract/test_s3_listing.py::test_folder_markers_are_left_alone_unless_they_hold_something",
        ),
    ),
    Mutation(
        "a key that leads upwards passes with its page",
        21,
        '_SUSPICIOUS = ("\\0", "//", "/./", "/../", "\\n/", "/\\n", "\\n./", "\\n../",',
        '_SUSPICIOUS = ("\\0", "//", "/./", "\\n/", "/\\n", "\\n./",',
        (
            "contract/test_s3_listing.py::test_one_key_that_no_folder_can_hold_does_not_pass_with_an_ordinary_page",
        ),
    ),
    Mutation(
        "a page that does not report whether more follow is the last",
        37,
        'if truncated not in ("true", "false"):',
        "if False:",
        ("contract/test_s3_listing.py::test_a_listing_with_a_broken_page_is_no_listing",),
    ),
    Mutation(
        "any XML is an empty page",
        34,
        'if name != "ListBucketResult":',
        "if False:",
        ("contract/test_s3_listing.py::test_a_listing_with_a_broken_page_is_no_listing",),
    ),
    Mutation(
        "the rest of a page that is cut off is not missed",
        37,
        '    except (ValueError, ElementTree.ParseError) as error:\n        raise BrokenPage("a page is no complete XML") from error\n',
        '    except (ValueError, ElementTree.ParseError):\n        columns, _ = _split(body.decode(errors="replace"))\n        return Page(*(columns or [[], [], [], []]), None)\n',
        ("contract/test_s3_listing.py::test_no_part_of_a_page_passes_for_the_whole",),
    ),
    Mutation(
        "a listing whose keys are out of order or repeat is believed",
        39,
        "if self._in_order and not ascending(",
        "if False and not ascending(",
        (
            "contract/test_s3_listing.py::test_a_listing_that_does_not_go_on_as_it_should_is_no_listing",
        ),
    ),
    Mutation(
        "a write whose answer was lost is sent again without a stat",
        49,
        "if error.ambiguous and (left := done()) is not None:",
        "if False and (left := done()) is not None:",
        (
            "contract/test_retrying.py::test_a_lost_write_is_recognised_by_its_content_where_there_is_no_metadata",
        ),
    ),
    Mutation(
        "an object of the size and time of a lost write is taken for it",
        None,
        "return found if self._digest(found) == digest else None",
        "return found",
        (
            "contract/test_retrying.py::test_anothers_object_of_the_same_size_and_time_is_not_the_lost_write",
        ),
    ),
    Mutation(
        "a write that arrives late is a conflict with itself",
        49,
        "if in_doubt and (left := done()) is not None:",
        "if False and (left := done()) is not None:",
        (
            "contract/test_retrying.py::test_a_write_that_arrives_after_the_look_for_it_is_still_known_for_its_own",
        ),
    ),
    Mutation(
        "a server that asks to wait is not heard",
        56,
        "max(self._rng.uniform(0.0, self._bound), error.retry_after or 0.0)",
        "self._rng.uniform(0.0, self._bound)",
        ("contract/test_s3_faults.py::test_the_wait_is_no_shorter_than_the_server_asks_for",),
    ),
    Mutation(
        "the waits between attempts do not grow",
        56,
        "        self._bound = min(2 * self._bound, LONGEST_WAIT_SECONDS)\n",
        "",
        ("contract/test_retrying.py::test_waits_are_random_and_their_bound_doubles",),
    ),
    Mutation(
        "a store that turns requests away gets as many as before",
        56,
        "self._set(max(_LEAST, self.limit // 2))",
        "self._set(self.limit)",
        (
            "unit/test_concurrency.py::test_a_store_that_turns_requests_away_gets_half_as_many_and_more_again_later",
        ),
    ),
    Mutation(
        "an object that the server stored wrong is left so",
        62,
        "if not stored.disagrees:",
        "if True:",
        (
            "contract/test_s3_faults.py::test_an_object_that_was_stored_wrong_is_replaced_and_reported_but_never_deleted",
        ),
    ),
    Mutation(
        "an upload goes without its MD5",
        62,
        "**_demand(condition), **_content_md5(hashed)}",
        "**_demand(condition)}",
        (
            "contract/test_s3_servers.py::test_a_bucket_with_default_retention_takes_uploads_small_and_in_parts",
        ),
    ),
    Mutation(
        "the ETag of an encrypted object is an MD5",
        63,
        'if name.endswith("server-side-encryption") and headers[name] != "AES256":',
        "if False:",
        (
            "contract/test_s3_faults.py::test_a_bucket_that_becomes_encrypted_takes_uploads_and_gives_downloads",
        ),
    ),
    Mutation(
        "an upload that is given up leaves its parts behind",
        65,
        "            self._calls.abort_upload(key, upload.id)\n",
        "            pass\n",
        ("contract/test_s3_multipart.py::test_an_upload_that_is_given_up_leaves_no_parts",),
    ),
    Mutation(
        "an upload goes on after a completion that met another write",
        50,
        "    if isinstance(error, Conflict | UploadGone):\n        return False\n",
        "",
        ("contract/test_s3_multipart.py::test_a_completion_that_meets_another_write_begins_anew",),
    ),
    Mutation(
        "a success without an ETag is a success",
        67,
        '            raise unconfirmed(self._location, key, "an ETag")\n        return version or ""',
        '            return "unknown"\n        return version or ""',
        ("contract/test_s3_faults.py::test_an_upload_answered_200_by_a_login_page_is_not_stored",),
    ),
    Mutation(
        "an archived object is replaced without a copy",
        66,
        'trash/{keep}/{current.path}"))\n        except ObjectArchived as error:\n            raise NotKept(current.path) from error\n',
        'trash/{keep}/{current.path}"))\n        except ObjectArchived:\n            return\n',
        (
            "contract/test_s3_servers.py::test_an_archived_object_is_replaced_where_the_bucket_keeps_versions_and_named_elsewhere",
        ),
    ),
    Mutation(
        "two writers into one folder overwrite each other",
        48,
        "            current = self._expected(path, expect)\n            try:",
        "            current = self._look(path)\n            try:",
        ("unit/test_folder_store.py::test_of_many_conditional_writes_one_succeeds",),
    ),
    Mutation(
        "a condition counts as checked although the right one is refused",
        None,
        "            if self._is_met(partial(act, form.of(version))):\n                return form",
        "            return form",
        (
            "contract/test_s3_probe.py::test_a_server_that_refuses_the_right_version_in_every_form_is_not_sent_any",
        ),
    ),
    Mutation(
        "a condition counts as checked although the wrong one is accepted",
        48,
        "            if not self._is_unmet(partial(act, form.of(_NOBODY))):\n                return Form.NONE\n",
        "",
        ("contract/test_s3_servers.py::test_a_server_without_conditions_is_not_trusted_with_any",),
    ),
    Mutation(
        "a replacement that fails leaves a copy in the trash",
        None,
        "if kept and original and _is_copy(kept, original):",
        "if False:",
        (
            "contract/test_s3_faults.py::test_a_replacement_that_fails_leaves_no_kept_copy_in_the_trash",
        ),
    ),
    Mutation(
        "a kept copy is removed although its original may be gone",
        None,
        "        if copy in self._doubtful:\n            return\n",
        "",
        (
            "contract/test_s3_faults.py::test_a_kept_copy_stays_while_it_is_not_known_whether_its_original_was_replaced",
        ),
    ),
    Mutation(
        "a delete whose copy was not made counts as done",
        None,
        "                if self.stat(path) is None:\n                    return\n                raise PathError(",
        "                if True:\n                    return\n                raise PathError(",
        (
            "contract/test_s3_faults.py::test_a_delete_whose_kept_copy_was_not_made_deletes_nothing_and_says_so",
        ),
    ),
    Mutation(
        "a forked child uses the connections of its parent",
        53,
        "    for owner, start in list(_owners.items()):\n        start(owner)\n",
        "    return\n",
        (
            "contract/test_forking.py::test_a_forked_child_uses_no_connection_lock_or_thread_of_its_parent_on_s3",
        ),
    ),
    Mutation(
        "a connection that the server has closed is used again",
        57,
        "            if connection.is_quiet():\n",
        "            if True:\n",
        (
            "contract/test_s3_faults.py::test_connections_the_server_has_closed_meanwhile_are_not_used_again",
        ),
    ),
    Mutation(
        "a token that was revoked is not renewed",
        52,
        "if response.status_code == 401:",
        "if False:",
        ("contract/test_craftai_faults.py::test_an_access_token_that_was_revoked_is_renewed_once",),
    ),
    Mutation(
        "an object on Craft AI that was replaced since the listing is taken for the one listed",
        39,
        "if not same_second(body.modified_ns, known.modified_ns):",
        "if False:",
        (
            "contract/test_craftai_faults.py::test_an_object_that_changes_before_it_is_fetched_is_not_taken_for_the_one_listed",
        ),
    ),
    Mutation(
        "what answers a signed URL is not bound to its method",
        None,
        "signed = [method, path,",
        "signed = [path,",
        (
            "unit/test_serve_permissions.py::test_a_signature_is_for_one_method_path_upload_part_and_end",
        ),
    ),
    Mutation(
        "a signed URL holds for ever",
        None,
        'if int(fields["expires"]) <= self._clock.now_ns() / 1e9:',
        "if False:",
        ("unit/test_serve_permissions.py::test_a_signed_url_holds_until_it_ends",),
    ),
    Mutation(
        "a look of a moment ago is believed for an hour",
        48,
        "self._clock.monotonic() - self._began <= self._seconds",
        "self._clock.monotonic() - self._began <= 3600",
        (
            "contract/test_s3_absence.py::test_it_is_sure_only_while_a_listing_is_fresh_and_repeats_a_cheap_one",
        ),
    ),
    Mutation(
        "the end of a body on S3 is not missed",
        15,
        "        if missing:\n            raise StoreUnavailable(",
        "        if False:\n            raise StoreUnavailable(",
        ("unit/test_readers.py::test_an_object_of_s3_of_another_length_is_an_error",),
    ),
    Mutation(
        "a small upload to S3 is not compared with its source once more",
        1,
        "        if not is_large:\n            source.verify()\n",
        "",
        (
            "contract/test_store_contract.py::test_content_that_changes_while_it_is_read_leaves_nothing[s3-fake-plain-5]",
        ),
    ),
    Mutation(
        "a file that changes while it is sent to Craft AI becomes an object",
        1,
        "            if self.held and offset + len(chunk) == self._span.stop:\n                self._source.verify()\n",
        "",
        (
            "contract/test_craftai_weaknesses.py::test_w25_a_file_that_changes_while_it_is_sent_never_becomes_an_object",
        ),
    ),
    Mutation(
        "what hides below an object is written",
        23,
        "if self.facts.hides_below and not isinstance(expect, RemoteObject):",
        "if False:",
        (
            "cli/test_cli_s3_servers.py::test_what_a_listing_would_hide_is_not_written_and_not_deleted",
        ),
    ),
    Mutation(
        "the checksum of the storage behind Craft AI is not compared",
        68,
        "    return match.group(1) == md5_hex",
        "    return True",
        (
            "contract/test_craftai_weaknesses.py::test_w16_bytes_that_changed_on_their_way_are_noticed",
        ),
    ),
    Mutation(
        "bytes that changed on their way to Craft AI are not read back",
        62,
        "        if receipt.intact is False:\n            self._read_back(found, source)\n",
        "",
        (
            "contract/test_craftai_weaknesses.py::test_w16_bytes_that_changed_on_their_way_are_noticed",
        ),
    ),
    Mutation(
        "a kept signed URL that is refused ends the run",
        None,
        "            if not is_kept and not is_expired:\n                raise",
        "            if not is_expired:\n                raise",
        (
            "contract/test_craftai_faults.py::test_a_kept_signed_url_that_is_refused_is_replaced_once",
        ),
    ),
    Mutation(
        "a listing out of order is believed by the planner",
        39,
        "        if path >= file_path or path >= row_path or path >= found_path:",
        "        if False:",
        (
            "scenario/test_disasters.py::test_a_listing_that_comes_out_of_order_is_none_and_changes_nothing",
        ),
    ),
    Mutation(
        "an address from a .env file gets a token that is not from it",
        None,
        "if only or in_dotenv(known.token_env, known.token_file):",
        "if True:",
        (
            "cli/test_cli_craftai.py::test_a_control_url_from_a_dotenv_file_never_gets_another_token",
        ),
    ),
    Mutation(
        "a migration into another store at the same address goes on",
        35,
        'state.database.get(f"{name}_id")\n    if known is not None and found != known:',
        'state.database.get(f"{name}_id")\n    if False:',
        ("scenario/test_migrate.py::test_another_store_at_the_same_address_is_noticed",),
    ),
    Mutation(
        "what a store that kept none reports is kept on Craft AI only with a copy",
        None,
        "return None if self.store_trash is StoreTrash.OFF else self.keep",
        "return None if self.store_trash is not StoreTrash.ALL else self.keep",
        ("scenario/test_retention.py::test_a_delete_is_kept_there_all_the_same",),
    ),
)
