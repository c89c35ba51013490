-- Files that were being put into the folder and are not recorded yet. `inode` is the file's own from
-- before it had its name; `placed` is 1 once it had it. Of another boot nothing is believed: what was
-- not on the disk yet may be lost.
CREATE TABLE arrival (
    path        TEXT    NOT NULL PRIMARY KEY,
    boot        TEXT    NOT NULL,
    placed      INTEGER NOT NULL DEFAULT 0,
    size        INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    digest      BLOB,                 -- SHA-256, 32 bytes
    modified_ns INTEGER,              -- of the object it came from, as is the version
    version     TEXT
) STRICT, WITHOUT ROWID;
