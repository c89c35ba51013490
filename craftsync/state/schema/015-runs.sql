-- Which run did it, as people name it. Rows of before have no number.
ALTER TABLE history ADD COLUMN run INTEGER;

-- What a run replaced or deleted, and what it left on both sides, so that a person can take the run
-- back. Rows go with the history of their run.
CREATE TABLE replaced (
    run          INTEGER NOT NULL,
    path         TEXT    NOT NULL,
    side         TEXT    NOT NULL,    -- root or store: the side that held it
    stamp        TEXT,                -- what the trash keeps it under; NULL: the trash does not
    size         INTEGER NOT NULL,
    version      TEXT,                -- the store's token of it
    left_size    INTEGER,             -- of what the run left on both sides; NULL: nothing
    left_digest  BLOB,
    left_version TEXT,
    PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;
