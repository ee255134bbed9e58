#!/usr/bin/env python
"""Write down what this version's database looks like, with a job in every state, a batch, a key and a submission that
may be sent again, so that later versions can be tested to upgrade it: once for each release, in tests/data/databases/.

    .venv/bin/python tools/keep_database.py 0.1.0
"""

from __future__ import annotations

import sqlite3  # only it can dump; nothing else has the file open by then
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from web_support import put_every_state  # noqa: E402

from tasks import store  # noqa: E402
from tasks.actions import Box  # noqa: E402
from tasks.config import Config  # noqa: E402
from tasks.db import open_database  # noqa: E402
from tasks.jobs import Params, State  # noqa: E402
from tasks.queue import Queue  # noqa: E402


def main() -> None:
    version = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data=Path(folder) / "data", slots=1, queue_limit=5)
        database = open_database(config)
        box = Box(config, database, Queue(config.queue_db))
        jobs = put_every_state(box)
        store.enter_batch(database, jobs[State.RECEIVING].id, "Interviews")
        box.access.create_key("laptop", days=36_500)
        with box.receive("again.mp3", key="the same twice") as receiving:
            receiving.write(b"sound")
            receiving.queue(Params("demo", None))
        box.change_settings({"queue_limit": 7, "keep_days": 30}, by="a person")
        box.queue.close()
        database.close()
        connection = sqlite3.connect(config.jobs_db)
        target = ROOT / "tests" / "data" / "databases" / f"{version}.sql"
        target.write_text("\n".join(connection.iterdump()) + "\n", encoding="utf-8")
        connection.close()
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
