-- What craftsync remembers about one migration, from a source store to a target store.

-- A row says: at this path, source and target held the same content, and looked
-- like this. It is written only after the target is durable.
CREATE TABLE copied (
    path               TEXT    NOT NULL PRIMARY KEY,
    size               INTEGER NOT NULL,
    source_modified_ns INTEGER,
    source_version     TEXT,
    target_modified_ns INTEGER,
    target_version     TEXT,
    digest             BLOB,             -- SHA-256, 32 bytes; NULL: the content never came through here
    verified           TEXT    NOT NULL  -- how it is known that both hold the same
) STRICT, WITHOUT ROWID;

-- The steps of the run under way. Rows go as they are done.
CREATE TABLE copy_step (
    id                 INTEGER PRIMARY KEY,
    kind               TEXT    NOT NULL,
    path               TEXT    NOT NULL UNIQUE,
    rule               TEXT    NOT NULL,
    source_size        INTEGER,          -- NULL: nothing there
    source_modified_ns INTEGER,
    source_version     TEXT,
    target_size        INTEGER,          -- NULL: nothing there
    target_modified_ns INTEGER,
    target_version     TEXT,
    undone             INTEGER NOT NULL DEFAULT 0  -- 1: it was tried in this run and could not be done
) STRICT;
