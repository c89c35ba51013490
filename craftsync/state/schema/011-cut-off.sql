-- Deletes that a run was about to carry out when it was cut off. If such a path is gone on both
-- sides by now, it was that run: the delete belongs to an event like any that was recorded.
CREATE TABLE cut_off (
    path  TEXT    NOT NULL PRIMARY KEY,
    kind  TEXT    NOT NULL,
    size  INTEGER NOT NULL,
    stamp TEXT    NOT NULL            -- what the trash keeps it under, if it went
) STRICT, WITHOUT ROWID;
-- 1: a person rejected the delete, and what went could not be brought back.
ALTER TABLE event_delete ADD COLUMN rejected INTEGER NOT NULL DEFAULT 0;
