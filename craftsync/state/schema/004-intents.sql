-- Several runs in a row may be cut off before a path is looked at again, and any
-- of their writes may be the object that is there.
ALTER TABLE intent RENAME TO intent_of_last_run;
CREATE TABLE intent (
    path      TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    ctime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    PRIMARY KEY (path, operation)
) STRICT, WITHOUT ROWID;
INSERT INTO intent SELECT * FROM intent_of_last_run;
DROP TABLE intent_of_last_run;
