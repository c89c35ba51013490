-- The tables of a new state database. The steps in schema/ give an older one the same tables, with
-- their columns in this order; a change of the schema is a new step and a change here.
-- Every file runs in one transaction; the number of the last step is the database's user_version.

-- Facts about the folder and its store: their addresses, identities, what probing the store found,
-- the last success.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A row says: at this path, both sides held the same content, and looked like this. It is written
-- only after both sides are durable. Where a store is the left side (a migration), `left_version`
-- is its object's version.
CREATE TABLE baseline (
    path         TEXT    NOT NULL PRIMARY KEY,
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    ctime_ns     INTEGER NOT NULL,
    inode        INTEGER NOT NULL,
    racy         INTEGER NOT NULL,            -- 1: hash the file again before trusting the fingerprint
    digest       BLOB,                        -- SHA-256, 32 bytes
    modified_ns  INTEGER,                     -- by the store's clock
    version      TEXT,                        -- the store's opaque token
    uploaded     INTEGER NOT NULL DEFAULT 0,  -- 1: the object is this client's own upload
    left_version TEXT,
    verified     TEXT                         -- how it is known that both hold the same
) STRICT, WITHOUT ROWID;
-- Counting conflict copies is part of every run, however few paths it has.
CREATE INDEX baseline_conflict ON baseline (path) WHERE path GLOB
    '* (conflict [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]-* *)*';

-- The steps of the run under way, in their order. A row ends when its outcome is recorded; what a
-- crash leaves becomes intents.
CREATE TABLE plan (
    id           INTEGER PRIMARY KEY,
    stage        INTEGER NOT NULL,  -- 0 clears the way, 1 moves and transfers, 2 deletes,
                                    -- 3 was added during the run, 4 failed in this run
    kind         TEXT    NOT NULL,
    path         TEXT    NOT NULL,
    source       TEXT,              -- where a move comes from
    rule         TEXT    NOT NULL,
    size         INTEGER,           -- of the file in the folder; NULL: nothing there
    mtime_ns     INTEGER,
    ctime_ns     INTEGER,
    inode        INTEGER,
    remote_size  INTEGER,           -- of the object in the store; NULL: nothing there
    modified_ns  INTEGER,
    version      TEXT,
    left_version TEXT
) STRICT;
CREATE INDEX plan_path ON plan (path);
CREATE INDEX plan_source ON plan (source) WHERE source IS NOT NULL;

-- Writes that were about to be made when craftsync last stopped. An object with the operation, or
-- with the content, is craftsync's own, whatever the folder holds by now.
CREATE TABLE intent (
    path      TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    ctime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    digest    BLOB,              -- SHA-256, 32 bytes
    PRIMARY KEY (path, operation)
) STRICT, WITHOUT ROWID;

-- Deletes, renames and steps to forget that a run was about to carry out when it was killed.
CREATE TABLE cut_off (
    path  TEXT    NOT NULL PRIMARY KEY,
    kind  TEXT    NOT NULL,
    size  INTEGER NOT NULL,
    stamp TEXT    NOT NULL  -- what the trash keeps it under, if it was deleted
) STRICT, WITHOUT ROWID;

-- Files that were being put into the folder and are not recorded yet. `inode` is the file's own from
-- before it had its name; `placed` is 1 once it had it. Rows of another boot are ignored: what was
-- not on the disk yet may be lost.
CREATE TABLE arrival (
    path        TEXT    NOT NULL PRIMARY KEY,
    boot        TEXT    NOT NULL,
    placed      INTEGER NOT NULL DEFAULT 0,
    size        INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    digest      BLOB,     -- SHA-256, 32 bytes
    modified_ns INTEGER,  -- of the object it came from, as is the version
    version     TEXT
) STRICT, WITHOUT ROWID;

-- Large uploads under way: the same content continues where it was.
CREATE TABLE upload (
    upload_id TEXT    NOT NULL PRIMARY KEY,
    path      TEXT    NOT NULL,
    digest    BLOB    NOT NULL,
    part_size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE upload_part (
    upload_id TEXT    NOT NULL REFERENCES upload ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    version   TEXT    NOT NULL,
    PRIMARY KEY (upload_id, number)
) STRICT, WITHOUT ROWID;

-- Large downloads under way: which parts of which version the temporary file holds.
CREATE TABLE download (
    temporary TEXT    NOT NULL PRIMARY KEY,
    path      TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    version   TEXT    NOT NULL,
    part_size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE download_part (
    temporary TEXT    NOT NULL REFERENCES download ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    PRIMARY KEY (temporary, number)
) STRICT, WITHOUT ROWID;

-- The deletes that wait for a person. A row ends when its path is in sync again, or when a complete
-- run no longer plans the delete.
CREATE TABLE held (
    path        TEXT    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,  -- delete-remote: gone from the folder; delete-local: gone from the store
    mode        TEXT    NOT NULL,  -- of the run that held it
    reason      TEXT    NOT NULL,
    since_ns    INTEGER NOT NULL,
    limit_files INTEGER NOT NULL,  -- the limit it was held under
    limit_share REAL    NOT NULL,
    size        INTEGER,           -- of the file that would be deleted; NULL: none
    mtime_ns    INTEGER,
    ctime_ns    INTEGER,
    inode       INTEGER,
    remote_size INTEGER,           -- of the object that would be deleted; NULL: none
    modified_ns INTEGER,
    version     TEXT,
    archived    INTEGER NOT NULL DEFAULT 0  -- 1: held because its object is archived; of no event
) STRICT, WITHOUT ROWID;

-- The deletes that were carried out without approval, as long as the next ones count with them: the
-- guard judges an event as a whole, and a person can undo all of it.
CREATE TABLE event (
    kind        TEXT    NOT NULL PRIMARY KEY,
    deletes     INTEGER NOT NULL,  -- that count; new paths make up for as many
    last_ns     INTEGER NOT NULL,  -- of the last delete, by this machine's clock
    limit_files INTEGER NOT NULL,  -- the limit they were judged under
    limit_share REAL    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE event_delete (
    kind     TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    at_ns    INTEGER NOT NULL,
    stamp    TEXT    NOT NULL,            -- what the trash keeps it under
    rejected INTEGER NOT NULL DEFAULT 0,  -- 1: a person rejected it, and it could not be restored
    PRIMARY KEY (kind, path)
) STRICT, WITHOUT ROWID;

-- What this client has replaced or deleted and the trash keeps. Retention removes nothing else.
CREATE TABLE kept (
    side  TEXT    NOT NULL,  -- root or store
    stamp TEXT    NOT NULL,  -- the trash keeps it as .craftsync/trash/<stamp>/<path>
    path  TEXT    NOT NULL,
    size  INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,  -- by this machine's clock
    PRIMARY KEY (side, stamp, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX kept_at ON kept (at_ns);
-- Their number and bytes, so that nobody has to count them.
CREATE TABLE kept_total (files INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
INSERT INTO kept_total VALUES (0, 0);
CREATE TRIGGER kept_added AFTER INSERT ON kept BEGIN
    UPDATE kept_total SET files = files + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER kept_removed AFTER DELETE ON kept BEGIN
    UPDATE kept_total SET files = files - 1, bytes = bytes - old.size;
END;

-- What was done, for people.
CREATE TABLE history (
    id      INTEGER PRIMARY KEY,
    at_ns   INTEGER NOT NULL,
    command TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    path    TEXT    NOT NULL,
    size    INTEGER NOT NULL,
    status  TEXT    NOT NULL,  -- done, problem, skipped, conflict, held
    reason  TEXT    NOT NULL,
    run     INTEGER            -- the run that did it; NULL: before runs had numbers
) STRICT;
CREATE INDEX history_path ON history (path, id);

-- What a run replaced or deleted, and what it left on both sides, so that a person can undo the run.
-- Rows end with the history of their run.
CREATE TABLE replaced (
    run          INTEGER NOT NULL,
    path         TEXT    NOT NULL,
    side         TEXT    NOT NULL,  -- root or store: the side that held it
    stamp        TEXT,              -- what the trash keeps it under; NULL: the trash does not
    size         INTEGER NOT NULL,
    version      TEXT,              -- the store's token of it
    left_size    INTEGER,           -- of what the run left on both sides; NULL: nothing
    left_digest  BLOB,
    left_version TEXT,
    PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;
