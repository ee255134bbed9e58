BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	job VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	token VARCHAR(32) NOT NULL, 
	worker VARCHAR(32) NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	stage VARCHAR(16), 
	outcome VARCHAR(16), 
	cause VARCHAR(32), 
	sentence TEXT, 
	peak_bytes BIGINT, 
	batch INTEGER, 
	charged BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (token)
);
INSERT INTO "attempts" VALUES(1,'f232fcc3908045d798e41d53df1e3236',1,'194edd662be34b798535ff2e3a5187fb','a worker',1.79561846146276783949e+09,1.79561846146809649463e+09,'decode','completed',NULL,NULL,NULL,NULL,0);
INSERT INTO "attempts" VALUES(2,'22db9dfae6a5428aa9e65259213a8c40',1,'379f0e7eb088460e8f1a8f2a772cb327','a worker',1.79561846152810597422e+09,1795618461.53115,'decode','failed','no_audio','There is no sound in it.',NULL,NULL,0);
INSERT INTO "attempts" VALUES(3,'50297c19a7b340a9941c9691ebfc6abf',1,'aad551916c474a8f91a1ce0b3570dd83','a worker',1.79561846154448866846e+09,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE batches (
	id VARCHAR(32) NOT NULL, 
	submitter VARCHAR(64) NOT NULL, 
	name VARCHAR(120) NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "batches" VALUES('52b29deb3f2a4753bcf153be167b6fa7','','Interviews',1.795618461576182127e+09);
CREATE TABLE changes (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	"by" TEXT NOT NULL, 
	name VARCHAR(32) NOT NULL, 
	old JSON NOT NULL, 
	new JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "changes" VALUES(1,1.79561846159643101689e+09,'a person','queue_limit',5,7);
INSERT INTO "changes" VALUES(2,1.79561846159643101689e+09,'a person','keep_days',0,30);
CREATE TABLE idempotency_keys (
	submitter VARCHAR(64) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	job_id VARCHAR(32) NOT NULL, 
	created_at FLOAT NOT NULL, 
	accepted BOOLEAN NOT NULL, 
	PRIMARY KEY (submitter, "key")
);
INSERT INTO "idempotency_keys" VALUES('','the same twice','5e1d2554120f4a2997935eed1750bb7f',1.79561846158276510235e+09,1);
CREATE TABLE "jobs" (
	id VARCHAR(32) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	stage VARCHAR(16), 
	progress FLOAT NOT NULL, 
	created_at FLOAT NOT NULL, 
	queued_at FLOAT, 
	started_at FLOAT, 
	finished_at FLOAT, 
	attempts INTEGER NOT NULL, 
	crashes INTEGER NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	receiver VARCHAR(32), 
	token VARCHAR(32), 
	worker VARCHAR(32), 
	lease_until FLOAT, 
	source_type VARCHAR(16) NOT NULL, 
	source_name TEXT NOT NULL, 
	source_bytes BIGINT, 
	source_seconds FLOAT, 
	params JSON NOT NULL, 
	error_code VARCHAR(32), 
	error_message TEXT, 
	note TEXT, 
	result VARCHAR(64), 
	submitter VARCHAR(64) DEFAULT ('') NOT NULL, 
	turn INTEGER DEFAULT 0 NOT NULL, 
	work_seconds FLOAT, 
	source_sha256 VARCHAR(64), 
	media_removed_at FLOAT, 
	source_url TEXT, 
	needs_download BOOLEAN DEFAULT 0 NOT NULL, 
	about JSON DEFAULT '{}' NOT NULL, 
	resumed FLOAT DEFAULT 0 NOT NULL, 
	elapsed FLOAT DEFAULT 0 NOT NULL, media JSON, batch VARCHAR(32), 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES('f232fcc3908045d798e41d53df1e3236','transcription','completed',NULL,1.0,1.79561846145370721818e+09,1.79561846145721030242e+09,1.79561846146276783949e+09,1.79561846146809649463e+09,1,0,0,NULL,NULL,NULL,NULL,'upload','completed.mp3',5,2.5,'{"model": "demo", "language": null, "track": null, "kind": "transcription", "format": null, "bitrate": null}',NULL,NULL,NULL,'194edd662be34b798535ff2e3a5187fb.json','',0,1.0,NULL,NULL,NULL,0,'{}',0.0,0.0,NULL,NULL);
INSERT INTO "jobs" VALUES('22db9dfae6a5428aa9e65259213a8c40','transcription','failed',NULL,0.0,1.79561846147330141064e+09,1.79561846147646236417e+09,1.79561846152810597422e+09,1795618461.53115,1,0,0,NULL,NULL,NULL,NULL,'upload','failed.mp3',5,NULL,'{"model": "demo", "language": null, "track": null, "kind": "transcription", "format": null, "bitrate": null}','no_audio','There is no sound in it.',NULL,NULL,'',0,NULL,NULL,NULL,NULL,0,'{}',0.0,0.0,NULL,NULL);
INSERT INTO "jobs" VALUES('50297c19a7b340a9941c9691ebfc6abf','transcription','running','decode',0.0,1.79561846153778052323e+09,1.79561846154105091092e+09,1.79561846154448866846e+09,NULL,1,0,0,NULL,'aad551916c474a8f91a1ce0b3570dd83','a worker',1.79562206154448866842e+09,'upload','running.mp3',5,NULL,'{"model": "demo", "language": null, "track": null, "kind": "transcription", "format": null, "bitrate": null}',NULL,NULL,NULL,NULL,'',0,NULL,NULL,NULL,NULL,0,'{}',0.0,0.0,NULL,NULL);
INSERT INTO "jobs" VALUES('fd66cb6684574712815b0ed69a3aaacc','transcription','canceled',NULL,0.0,1.79561846155100560181e+09,1.79561846155402398111e+09,NULL,1.79561846155934882159e+09,0,0,0,NULL,NULL,NULL,NULL,'upload','canceled.mp3',5,NULL,'{"model": "demo", "language": null, "track": null, "kind": "transcription", "format": null, "bitrate": null}',NULL,NULL,NULL,NULL,'',1,NULL,NULL,NULL,NULL,0,'{}',0.0,0.0,NULL,NULL);
INSERT INTO "jobs" VALUES('3d6cafdcbdab43408a6757c98cf4bf12','transcription','queued',NULL,0.0,1.79561846156432199476e+09,1.79561846156748461727e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,NULL,'upload','queued.mp3',5,NULL,'{"model": "demo", "language": null, "track": null, "kind": "transcription", "format": null, "bitrate": null}',NULL,NULL,NULL,NULL,'',1,NULL,NULL,NULL,NULL,0,'{}',0.0,0.0,NULL,NULL);
INSERT INTO "jobs" VALUES('4c2feeb679a7469bb2908d88fc711465','transcription','receiving',NULL,0.0,1.7956184615736796856e+09,NULL,NULL,NULL,0,0,0,'45358f8c52994b0bbd789b9c40167ee2',NULL,NULL,NULL,'upload','receiving.mp3',NULL,NULL,'{}',NULL,NULL,NULL,NULL,'',0,NULL,NULL,NULL,NULL,0,'{}',0.0,0.0,NULL,'52b29deb3f2a4753bcf153be167b6fa7');
INSERT INTO "jobs" VALUES('5e1d2554120f4a2997935eed1750bb7f','transcription','queued',NULL,0.0,1.79561846158475780493e+09,1.79561846159114360814e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,NULL,'upload','again.mp3',5,NULL,'{"model": "demo", "language": null, "track": null, "kind": "transcription", "format": null, "bitrate": null}',NULL,NULL,NULL,NULL,'',2,NULL,'dd29442deca69f52c50006b831cb216edf78a7da33748f0a80ff19f2ebe57ecd',NULL,NULL,0,'{}',0.0,0.0,NULL,NULL);
CREATE TABLE keys (
	id VARCHAR(16) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	hint VARCHAR(8) NOT NULL, 
	scope VARCHAR(8) NOT NULL, 
	owner VARCHAR(16) NOT NULL, 
	max_active INTEGER, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT, 
	used_at FLOAT, 
	revoked_at FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (digest)
);
INSERT INTO "keys" VALUES('66878924c45c4d38','laptop','6a2dc63156522185e56c74567c04454c585c07f34b9aa6996e057068943d0df0','M3CJ','submit','66878924c45c4d38',NULL,1.7956184615779163837e+09,4.94921846157791614538e+09,NULL,NULL);
CREATE TABLE logins (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	succeeded BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE measurements (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	compute_type VARCHAR(16) NOT NULL, 
	windows INTEGER NOT NULL, 
	aligned BOOLEAN NOT NULL, 
	base BIGINT NOT NULL, 
	load BIGINT NOT NULL, 
	job BIGINT NOT NULL, 
	audio_seconds FLOAT NOT NULL, 
	work_seconds FLOAT NOT NULL, 
	beside INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE samples (
	at FLOAT NOT NULL, 
	memory_used BIGINT NOT NULL, 
	memory_limit BIGINT NOT NULL, 
	swapped BIGINT NOT NULL, 
	stalled FLOAT, 
	cpu FLOAT NOT NULL, 
	response_seconds FLOAT, 
	oom_kills INTEGER NOT NULL, 
	running INTEGER NOT NULL, 
	queued INTEGER NOT NULL, 
	guard VARCHAR(16) NOT NULL, 
	PRIMARY KEY (at)
);
CREATE TABLE secrets (
	name VARCHAR(16) NOT NULL, 
	value TEXT NOT NULL, 
	set_at FLOAT NOT NULL, 
	set_by VARCHAR(16) NOT NULL, 
	expires_at FLOAT, 
	PRIMARY KEY (name)
);
CREATE TABLE sessions (
	id VARCHAR(16) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	seen_at FLOAT NOT NULL, 
	agent TEXT NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (digest)
);
CREATE TABLE settings (
	name VARCHAR(32) NOT NULL, 
	value JSON NOT NULL, 
	changed_at FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('queue_limit',7,1.79561846159643101689e+09);
INSERT INTO "settings" VALUES('keep_days',30,1.79561846159643101689e+09);
CREATE TABLE uploads (
	id VARCHAR(32) NOT NULL, 
	length BIGINT, 
	metadata TEXT NOT NULL, 
	submit BOOLEAN NOT NULL, 
	verified_to BIGINT, 
	expires_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX measurements_model ON measurements (model, id);
CREATE INDEX attempts_job ON attempts (job, number);
CREATE INDEX idempotency_keys_job ON idempotency_keys (job_id);
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_same ON jobs (source_sha256) WHERE source_sha256 IS NOT NULL;
CREATE INDEX jobs_active ON jobs (state, turn, queued_at, id) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX keys_name ON keys (name) WHERE revoked_at IS NULL;
CREATE INDEX logins_at ON logins (at);
CREATE INDEX uploads_expires ON uploads (expires_at);
CREATE UNIQUE INDEX batches_name ON batches (submitter, name);
CREATE INDEX jobs_batch ON jobs (batch, created_at) WHERE batch IS NOT NULL;
COMMIT;
