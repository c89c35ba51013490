-- The deletes that wait for a person. A row goes when its path is agreed on again,
-- or when a complete look no longer asks for the delete.
CREATE TABLE held (
    path        TEXT    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,     -- delete-remote: gone from the root; delete-local: gone from the store
    mode        TEXT    NOT NULL,     -- of the pass that held it
    reason      TEXT    NOT NULL,
    since_ns    INTEGER NOT NULL,
    limit_files INTEGER NOT NULL,     -- the limit it was held under
    limit_share REAL    NOT NULL,
    size        INTEGER,              -- of the file that would go from the root; NULL: none
    mtime_ns    INTEGER,
    ctime_ns    INTEGER,
    inode       INTEGER,
    remote_size INTEGER,              -- of the object that would go from the store; NULL: none
    modified_ns INTEGER,
    version     TEXT
) STRICT, WITHOUT ROWID;
