"""The faces of the runner: page, API and command line. Imports `tasks`, never the other way round, and never torch.

A module here imports only modules above it:

    paths  shapes  templating  errors  security  origins  compression  proxies  caching  cookies
    threads  admission  rules  auth  assets  submitters  bodies  dispositions  endpoints
    streams  uploads  raw  resources  submissions  api  batches_api  ranges  media_api  steps_api  guide  tus
    attempts_api  capacity_api  settings_api  ready  stories  pages  finished_page  batches_page  links  plots
    advice  limits_page  login  settings_page  openapi  documents  routes  door  scrape  app  light  outflow  protocol
    standin  server  supervisor  supervised  checkup  offline  client  ledger  progress  named  submit  figures  bench
    keys_cli  password_cli  cli  command
"""
