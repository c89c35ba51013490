PRAGMA user_version = 4;
BEGIN TRANSACTION;
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
INSERT INTO "baseline" VALUES('f01.txt',11,1767323051000000000,1795947709945316175,4475674,0,X'5C13142F731C90C50EB7A24610A530A1587E259110AC44BDBCBF6BFCF3474952',1767323051000000000,'b-1886caf38236ee00-18ec7ceda40ed144-449d9c');
INSERT INTO "baseline" VALUES('f02.txt',11,1767323052000000000,1795947709945316175,4475690,0,X'70BC19534CA90417E04AACD36E618B51830A2E0B7781023CBBA0CE7924ABD023',1767323052000000000,'b-1886caf3bdd1b800-18ec7ceda5739985-449d9a');
INSERT INTO "baseline" VALUES('f03.txt',11,1767323053000000000,1795947709957512961,4475706,0,X'8CC9C20E808A497D7288C30821835CF06635509EE91CB97B03A6C0D692196D23',1767323053000000000,'b-1886caf3f96c8200-18ec7ceda4768576-449d96');
INSERT INTO "baseline" VALUES('f04.txt',11,1767323054000000000,1795947709963431647,4475743,0,X'1529155071B0F8D90A9EA0F1C1FDD752809E00562BEC954318BEA240E65F00EF',1767323054000000000,'b-1886caf435074c00-18ec7ceda630209d-449d95');
INSERT INTO "baseline" VALUES('f05.txt',11,1767323055000000000,1795947709977316176,4475707,0,X'0E2B7D25DBB56CF03A8F9B047E7E6A9390602CCB6E4AC141B58DF6FF1B388F93',1767323055000000000,'b-1886caf470a21600-18ec7ceda6825d8a-449d97');
INSERT INTO "baseline" VALUES('f06.txt',11,1767323056000000000,1795947709993316177,4475719,0,X'A7DB69122884326F910AC9A9962BBA0EA5C2F835579AF691AAC0BF8306723AEE',1767323056000000000,'b-1886caf4ac3ce000-18ec7ceda73bffef-449d9b');
INSERT INTO "baseline" VALUES('f07.txt',11,1767323057000000000,1795947709993316177,4475769,0,X'66C83B6CF251D61542D856A26FE2532039976B6EDCA6F80B04B8AA00CDA947DA',1767323057000000000,'b-1886caf4e7d7aa00-18ec7ceda79f8ebd-449d9d');
INSERT INTO "baseline" VALUES('f08.txt',11,1767323058000000000,1795947710017316178,4473247,0,X'8610ADDD7155DD25CF85B7D7131CB0F2BD2F605C5A34788D3FEDF493F7E79EAD',1767323058000000000,'b-1886caf523727400-18ec7ceda877024a-449d93');
INSERT INTO "baseline" VALUES('f09.txt',11,1767323059000000000,1795947710021316178,4473435,0,X'B2122CE25085D4621E1FE415D42895EAE9EA5F20E6F85B279A534833E7B42AB9',1767323059000000000,'b-1886caf55f0d3e00-18ec7ceda85d2504-449d92');
INSERT INTO "baseline" VALUES('f10.txt',11,1767323060000000000,1795947710030702218,4473455,0,X'010E39BF20C3A0DD5DE5AEBB68D8B93C77C877F4A5D59AA8425E5A21948E6E13',1767323060000000000,'b-1886caf59aa80800-18ec7ceda95f1144-449d91');
INSERT INTO "baseline" VALUES('f11.txt',11,1767323061000000000,1795947710041316178,4473484,0,X'6455BA90871A3B1BE8ECDF238CD273779C4C3C1551E399591521D9E2A25577CF',1767323061000000000,'b-1886caf5d642d200-18ec7ceda977456b-449d8d');
INSERT INTO "baseline" VALUES('f12.txt',11,1767323062000000000,1795947710052185247,4473558,0,X'D316A3401A9113E0EEF1E72443EAB1AE42D97C4569586E86D2A8266470B08317',1767323062000000000,'b-1886caf611dd9c00-18ec7cedaa7a18d2-449d8a');
INSERT INTO "baseline" VALUES('f13.txt',11,1767323063000000000,1795947710053316179,4473570,0,X'1AFF80B8E669270F1774006CB3272677E1E6611839C9968714CE55C1435376CF',1767323063000000000,'b-1886caf64d786600-18ec7cedaaa3ba60-449da4');
INSERT INTO "baseline" VALUES('f14.txt',11,1767323064000000000,1795947710065316179,4473590,0,X'E1F09C9EBD229CB3CA7677218BDA6C4A168ED07F46676E1763E6B10E16164360',1767323064000000000,'b-1886caf689133000-18ec7cedaa8fc749-449d87');
INSERT INTO "baseline" VALUES('f15.txt',11,1767323065000000000,1795947710085316180,4473562,0,X'C0A63EFF55FB7945DAFA5689A5FE3D41353A7FE1126753F982326902882DC90F',1767323065000000000,'b-1886caf6c4adfa00-18ec7cedab8d4943-449f2b');
INSERT INTO "baseline" VALUES('f16.txt',11,1767323066000000000,1795947710092400561,4473653,0,X'B2EEC9295387900C60A8477E6468D7FDA7A107664D74D411E081B683FD41F179',1767323066000000000,'b-1886caf70048c400-18ec7cedab903766-449d88');
INSERT INTO "baseline" VALUES('f17.txt',11,1767323067000000000,1795947710093316181,4473713,0,X'E27F2A54A5B945CCE04FA013A90DEAB5EA71A5F4A98A15878EB50E093F5C60CE',1767323067000000000,'b-1886caf73be38e00-18ec7cedab915f7f-449d89');
INSERT INTO "baseline" VALUES('f18.txt',11,1767323068000000000,1795947710096045764,4473800,0,X'43AA311E09BCD8D06D7F9D414A001B3FFB60B5170F5476ED9D5AE6E696979EAE',1767323068000000000,'b-1886caf7777e5800-18ec7cedab92c7df-449eb4');
INSERT INTO "baseline" VALUES('f19.txt',11,1767323069000000000,1795947710105316181,4473696,0,X'F4A1185E288C82B0F58C03C50D31534A758AD2B554DCE5669A3BD1981AB090B8',1767323069000000000,'b-1886caf7b3192200-18ec7cedab93fe59-449eb5');
INSERT INTO "baseline" VALUES('f20.txt',11,1767323070000000000,1795947710113316181,4473699,0,X'1883969D2EAC6C2D1420867D7E4078927BBECEA65EA71D51739E31673B7A795A',1767323070000000000,'b-1886caf7eeb3ec00-18ec7cedab953e71-449eb6');
INSERT INTO "baseline" VALUES('f21.txt',11,1767323071000000000,1795947710122450136,4473669,0,X'D56D381E146E4B2C890A531A7BC55937D4FEB5FF7D428CA81C44E70D0A42295F',1767323071000000000,'b-1886caf82a4eb600-18ec7cedab9684fa-449eb7');
INSERT INTO "baseline" VALUES('f22.txt',11,1767323072000000000,1795947710154918713,4473733,0,X'EFDEE32A97BBA8D0B7427ED3A02EB40C2574A6D34E23A8FDC718A0CE0BC38B69',1767323072000000000,'b-1886caf865e98000-18ec7cedab979140-449eb8');
INSERT INTO "baseline" VALUES('f23.txt',11,1767323073000000000,1795947710166345875,4473868,0,X'CD3C75FDB143A48D0491F0B586003B9165C77B534801FFD31308A5F28FA797EE',1767323073000000000,'b-1886caf8a1844a00-18ec7cedab98cc97-449eb9');
INSERT INTO "baseline" VALUES('f24.txt',11,1767323074000000000,1795947710177316184,4473880,0,X'1076A852A1E58F439ED4D382C9BA1947E301996D262B957FEF8E6C7902E2F0D8',1767323074000000000,'b-1886caf8dd1f1400-18ec7cedab99d7ca-449eba');
INSERT INTO "baseline" VALUES('f25.txt',11,1767323075000000000,1795947710177316184,4473895,0,X'E95EDE7BB1897534D299B8830742C8C21E919A981E962C3950473544EA705E61',1767323075000000000,'b-1886caf918b9de00-18ec7cedab9af3ce-449ebb');
INSERT INTO "baseline" VALUES('f26.txt',11,1767323076000000000,1795947710185316184,4473909,0,X'4AD4726E91E20B6D60640258973DEB5B599AD413B0B87D7FCADF195FB2FAFD03',1767323076000000000,'b-1886caf95454a800-18ec7cedab9bf120-449ec0');
INSERT INTO "baseline" VALUES('f27.txt',11,1767323077000000000,1795947710203640519,4473924,0,X'6101C293C2573739280939F8B06649920BCD039990965DF164DC999B0EBF318F',1767323077000000000,'b-1886caf98fef7200-18ec7cedab9d19b4-449ec1');
INSERT INTO "baseline" VALUES('f28.txt',11,1767323078000000000,1795947710213316185,4473061,0,X'80EB6847B54BA201D42F33D057ED3151294CA0CB19335F1DE830D3E495B065A9',1767323078000000000,'b-1886caf9cb8a3c00-18ec7cedab9f1745-449d8b');
INSERT INTO "baseline" VALUES('f29.txt',11,1767323079000000000,1795947710213316185,4473068,0,X'8A16CA1B9968794BFEDA24CA1A2D3C00CED5B0D2484F14DF0A357B4BF425CFC7',1767323079000000000,'b-1886cafa07250600-18ec7cedab9e1f69-449d9e');
INSERT INTO "baseline" VALUES('f30.txt',11,1767323080000000000,1795947710217316185,4473105,0,X'40C47C753EA0D59940D4E7166BEC7E76E658D6B05F323F481334A784376EB244',1767323080000000000,'b-1886cafa42bfd000-18ec7cedabe50ce8-449ec2');
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
INSERT INTO "held" VALUES('f01.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323051000000000,1795947709945316175,4475674,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f02.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323052000000000,1795947709945316175,4475690,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f03.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323053000000000,1795947709957512961,4475706,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f04.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323054000000000,1795947709963431647,4475743,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f05.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323055000000000,1795947709977316176,4475707,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f06.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323056000000000,1795947709993316177,4475719,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f07.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323057000000000,1795947709993316177,4475769,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f08.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323058000000000,1795947710017316178,4473247,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f09.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323059000000000,1795947710021316178,4473435,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f10.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323060000000000,1795947710030702218,4473455,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f11.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323061000000000,1795947710041316178,4473484,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f12.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323062000000000,1795947710052185247,4473558,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f13.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323063000000000,1795947710053316179,4473570,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f14.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323064000000000,1795947710065316179,4473590,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f15.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323065000000000,1795947710085316180,4473562,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f16.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323066000000000,1795947710092400561,4473653,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f17.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323067000000000,1795947710093316181,4473713,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f18.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323068000000000,1795947710096045764,4473800,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f19.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323069000000000,1795947710105316181,4473696,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f20.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323070000000000,1795947710113316181,4473699,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f21.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323071000000000,1795947710122450136,4473669,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f22.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323072000000000,1795947710154918713,4473733,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f23.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323073000000000,1795947710166345875,4473868,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f24.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323074000000000,1795947710177316184,4473880,NULL,NULL,NULL);
INSERT INTO "held" VALUES('f25.txt','delete-local','two-way','25 paths are gone from the store at once, more than the larger of 20 files and 10%',1795947712434375708,20,0.1,11,1767323075000000000,1795947710177316184,4473895,NULL,NULL,NULL);
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
INSERT INTO "history" VALUES(1,1795947711650832348,'sync','upload','f01.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(2,1795947711650832348,'sync','upload','f03.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(3,1795947711650832348,'sync','upload','f02.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(4,1795947711650832348,'sync','upload','f04.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(5,1795947711650832348,'sync','upload','f05.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(6,1795947711650832348,'sync','upload','f06.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(7,1795947711650832348,'sync','upload','f07.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(8,1795947711650832348,'sync','upload','f09.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(9,1795947711650832348,'sync','upload','f08.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(10,1795947711650832348,'sync','upload','f10.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(11,1795947711650832348,'sync','upload','f11.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(12,1795947711650832348,'sync','upload','f12.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(13,1795947711650832348,'sync','upload','f14.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(14,1795947711650832348,'sync','upload','f13.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(15,1795947711650832348,'sync','upload','f15.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(16,1795947711650832348,'sync','upload','f16.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(17,1795947711650832348,'sync','upload','f17.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(18,1795947711650832348,'sync','upload','f18.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(19,1795947711650832348,'sync','upload','f19.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(20,1795947711650832348,'sync','upload','f20.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(21,1795947711650832348,'sync','upload','f21.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(22,1795947711650832348,'sync','upload','f22.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(23,1795947711650832348,'sync','upload','f23.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(24,1795947711650832348,'sync','upload','f24.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(25,1795947711650832348,'sync','upload','f25.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(26,1795947711650832348,'sync','upload','f26.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(27,1795947711650832348,'sync','upload','f27.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(28,1795947711650832348,'sync','upload','f29.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(29,1795947711650832348,'sync','upload','f28.txt',11,'done','the file is new in the root');
INSERT INTO "history" VALUES(30,1795947711650832348,'sync','upload','f30.txt',11,'done','the file is new in the root');
CREATE TABLE intent (
    path      TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    ctime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    PRIMARY KEY (path, operation)
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('last_problems','0');
INSERT INTO "meta" VALUES('last_success_ns','1795947711660468757');
INSERT INTO "meta" VALUES('mode','two-way');
INSERT INTO "meta" VALUES('root','@FOLDER@/root');
INSERT INTO "meta" VALUES('root_id','c039546cdc784f6b8d6934fa72782e9a');
INSERT INTO "meta" VALUES('run','29c92588ab6647539b07fbe9cb76a0e6');
INSERT INTO "meta" VALUES('store','@FOLDER@/store');
INSERT INTO "meta" VALUES('store_id','22decd81c46348808c4c7340fb6daa02');
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
CREATE INDEX plan_path ON plan (path);
CREATE INDEX history_path ON history (path, id);
COMMIT;
