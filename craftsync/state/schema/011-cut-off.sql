-- Deletes, renames and steps to forget that a run was about to carry out when it was cut off. Where
-- the side that lost the path lacks it by now, the step counts as carried out; if both sides lack it,
-- a delete belongs to an event like any that was recorded.
CREATE TABLE cut_off (
    path  TEXT    NOT NULL PRIMARY KEY,
    kind  TEXT    NOT NULL,
    size  INTEGER NOT NULL,
    stamp TEXT    NOT NULL            -- what the trash keeps it under, if it went
) STRICT, WITHOUT ROWID;
-- 1: a person rejected the delete, and what went could not be brought back.
ALTER TABLE event_delete ADD COLUMN rejected INTEGER NOT NULL DEFAULT 0;
