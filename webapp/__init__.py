"""The faces of the runner: page, API and command line. Imports `tasks`, never the other way round, and never torch.

A module here imports only modules above it:

    paths  templating  errors  security  assets  submitters  bodies  uploads  resources  api  attempts_api  media_api
    capacity_api  settings_api  ready  stories  pages  links  plots  advice  limits_page  routes  door  scrape  app
    server  supervisor  supervised  checkup  offline  client  ledger  progress  submit  figures  bench  cli
"""
