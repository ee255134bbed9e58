"""The runner: jobs, their queue, their admission and the processes that run them. Knows nothing of HTTP.

A module here imports only modules above it:

    errors  typed  disk  sqlite  clock  platforms  egress  config  principals  keys  passwords  throttle  jobs
    names  arrivals  logs  languages  cues  transcripts  lengths  machine  nvidia  proofs  devices  costs  slots
    capacity  promises  tables  db  accounts  metrics  store  access  logins  guard  media  retention  crashes
    scratch  children  decode  models  links  planner  choosing  lookout  recovery  readiness  survey  journal
    engine  synthetic  trial  queue  running  leases  heartbeat  monitor  sweeper  causes  outcomes  fetching  steps
    stages  pipeline  backup  findings  exposure  doctor  worker  repeats  reuse  wishes  receiving  undo  actions
    batches  ingest  inbox  resumable  chaining
"""

__version__ = "0.1.0"
