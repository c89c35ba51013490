-- The deletes that were carried out without a person's word, as long as the next ones count with
-- them: the guard judges an event as a whole, and a person can take all of it back.
CREATE TABLE event (
    kind        TEXT    NOT NULL PRIMARY KEY,
    deletes     INTEGER NOT NULL,     -- that count; new paths make up for as many
    last_ns     INTEGER NOT NULL,     -- of the last delete, by this machine's clock
    limit_files INTEGER NOT NULL,     -- the limit they were judged under
    limit_share REAL    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE event_delete (
    kind  TEXT    NOT NULL,
    path  TEXT    NOT NULL,
    size  INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    stamp TEXT    NOT NULL,           -- what the trash keeps it under
    PRIMARY KEY (kind, path)
) STRICT, WITHOUT ROWID;
-- Counting conflict copies is part of every run, however few paths it has.
CREATE INDEX baseline_conflict ON baseline (path) WHERE path GLOB
    '* (conflict [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]-* *)*';
