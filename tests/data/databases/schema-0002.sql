BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE changes (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	"by" TEXT NOT NULL, 
	name VARCHAR(32) NOT NULL, 
	old JSON NOT NULL, 
	new JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "changes" VALUES(1,1.79560174968619704243e+09,'a person','queue_limit',5,7);
INSERT INTO "changes" VALUES(2,1.79560174968619704243e+09,'a person','keep_days',0,30);
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
	submitter VARCHAR(64) DEFAULT '' NOT NULL, 
	turn INTEGER DEFAULT 0 NOT NULL, 
	work_seconds FLOAT, 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES('71b3307398074f1f8982142c96b057f1','transcription','completed',NULL,1.0,1.79560174960004258161e+09,1.79560174960316205026e+09,1.79560174960718154906e+09,1.79560174961189651489e+09,1,0,0,NULL,NULL,NULL,NULL,'upload','completed.mp3',5,2.5,'{"model": "demo", "language": null}',NULL,NULL,NULL,'e650fbe1388a480287492bbfa850b34c.json','',0,1.0);
INSERT INTO "jobs" VALUES('8f55cf9c052a406ea74f70c94e7a0328','transcription','failed',NULL,0.0,1.79560174961532258985e+09,1.79560174962204194062e+09,1.79560174962912821776e+09,1.79560174963296151156e+09,1,0,0,NULL,NULL,NULL,NULL,'upload','failed.mp3',5,NULL,'{"model": "demo", "language": null}','no_audio','There is no sound in it.',NULL,NULL,'',0,NULL);
INSERT INTO "jobs" VALUES('9d8781cf255e48a3955b469c38455998','transcription','running','decode',0.0,1.79560174963855051998e+09,1.79560174965306258198e+09,1.79560174965714097021e+09,NULL,1,0,0,NULL,'9755853d8c9d4d75a96f106903da57da','a worker',1.79560534965714097021e+09,'upload','running.mp3',5,NULL,'{"model": "demo", "language": null}',NULL,NULL,NULL,NULL,'',0,NULL);
INSERT INTO "jobs" VALUES('b58855831b6947d8bc789d32cb715614','transcription','canceled',NULL,0.0,1.79560174966576528545e+09,1.79560174966998314862e+09,NULL,1.7956017496732232571e+09,0,0,0,NULL,NULL,NULL,NULL,'upload','canceled.mp3',5,NULL,'{"model": "demo", "language": null}',NULL,NULL,NULL,NULL,'',1,NULL);
INSERT INTO "jobs" VALUES('1f6a3619264e46e48bc64576b255f99c','transcription','queued',NULL,0.0,1.79560174967578315731e+09,1.79560174967746806148e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,NULL,'upload','queued.mp3',5,NULL,'{"model": "demo", "language": null}',NULL,NULL,NULL,NULL,'',1,NULL);
INSERT INTO "jobs" VALUES('4148e8c27e494625b62072603e611cde','transcription','receiving',NULL,0.0,1.79560174968046498298e+09,NULL,NULL,NULL,0,0,0,'99dda5baed764ed99e525ec87243376d',NULL,NULL,NULL,'upload','receiving.mp3',NULL,NULL,'{}',NULL,NULL,NULL,NULL,'',0,NULL);
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
CREATE TABLE settings (
	name VARCHAR(32) NOT NULL, 
	value JSON NOT NULL, 
	changed_at FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('queue_limit',7,1.79560174968619704243e+09);
INSERT INTO "settings" VALUES('keep_days',30,1.79560174968619704243e+09);
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_active ON jobs (state, turn, queued_at, id) WHERE finished_at IS NULL;
CREATE INDEX measurements_model ON measurements (model, id);
COMMIT;
