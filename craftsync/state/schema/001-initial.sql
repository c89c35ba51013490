-- What craftsync remembers about one pair of root and store.
-- Each file here is run once, in the order of its number, in one transaction;
-- the number of the last one is the database's user_version.

-- Facts about the pair itself: root and store addresses, the marks both sides
-- carry, what probing the store found, the last success.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A row says: at this path, root and store held the same content, and looked
-- like this. It is written only after both sides are durable.
CREATE TABLE baseline (
    path        TEXT    NOT NULL PRIMARY KEY,
    size        INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    ctime_ns    INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    racy        INTEGER NOT NULL,     -- 1: hash the file again before believing the fingerprint
    digest      BLOB,                 -- SHA-256, 32 bytes
    modified_ns INTEGER,              -- by the store's clock
    version     TEXT                  -- the store's opaque token
) STRICT, WITHOUT ROWID;

-- The steps of the pass under way, in the order they are to be carried out.
-- Rows go as their outcomes are recorded; what a crash leaves behind becomes intents.
CREATE TABLE plan (
    id          INTEGER PRIMARY KEY,
    stage       INTEGER NOT NULL,     -- 0 clears the way, 1 moves and transfers, 2 deletes
    kind        TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    source      TEXT,                 -- where a move comes from
    rule        TEXT    NOT NULL,
    size        INTEGER,              -- of the file in the root; NULL: nothing there
    mtime_ns    INTEGER,
    ctime_ns    INTEGER,
    inode       INTEGER,
    remote_size INTEGER,              -- of the object in the store; NULL: nothing there
    modified_ns INTEGER,
    version     TEXT
) STRICT;
CREATE INDEX plan_path ON plan (path);

-- Writes that were about to be made when craftsync last stopped. An object that
-- carries the operation is craftsync's own, whatever the root holds by now.
CREATE TABLE intent (
    path      TEXT    NOT NULL PRIMARY KEY,
    operation TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    ctime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Large uploads under way: the same content goes on where it was.
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

-- What was done, for people.
CREATE TABLE history (
    id      INTEGER PRIMARY KEY,
    at_ns   INTEGER NOT NULL,
    command TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    path    TEXT    NOT NULL,
    size    INTEGER NOT NULL,
    status  TEXT    NOT NULL,         -- done, problem, skipped, conflict, held
    reason  TEXT    NOT NULL
) STRICT;
CREATE INDEX history_path ON history (path, id);
