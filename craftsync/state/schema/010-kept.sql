-- What this client has displaced or deleted and the trash keeps. Only what is in here is ever
-- removed by retention: versions of other clients, and of before this table, stay.
CREATE TABLE kept (
    side  TEXT    NOT NULL,           -- root or store
    stamp TEXT    NOT NULL,           -- the trash keeps it as .craftsync/trash/<stamp>/<path>
    path  TEXT    NOT NULL,
    size  INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,           -- by this machine's clock
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
