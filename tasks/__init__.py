"""The runner: jobs, their queue, their admission and the processes that run them. Knows nothing of HTTP.

A module here imports only modules above it:

    errors  config  jobs  logs  languages  transcripts  machine  nvidia  devices  costs  slots  capacity  promises  db
    store  guard  media  retention  children  decode  models  planner  lookout  survey  engine  synthetic  trial  queue
    running  heartbeat  monitor  causes  outcomes  pipeline  recovery  backup  readiness  doctor  worker
    repeats  reuse  actions
"""

__version__ = "0.1.0.dev0"
