"""Every address of this application."""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount, Route

from webapp import api, attempts_api, capacity_api, limits_page, links, media_api, pages, ready, settings_api
from webapp.assets import Static

routes: list[BaseRoute] = [
    Route("/", pages.index, name="index"),
    Route("/jobs", pages.submit, methods=["POST"]),
    Route("/jobs", pages.to_index),
    Route("/jobs/sample", pages.submit_sample, methods=["POST"]),
    Route("/jobs/{id}", pages.show),
    Route("/jobs/{id}/cancel", pages.cancel, methods=["POST"]),
    Route("/jobs/{id}/retry", pages.retry, methods=["POST"]),
    Route("/jobs/{id}/delete", pages.delete, methods=["POST"]),
    Route("/jobs/{id}/transcript.{format}", pages.download),
    Route("/links", links.begin, methods=["POST"]),
    Route("/links", links.to_index),
    Route("/links/jobs", links.take, methods=["POST"]),
    Route("/limits", limits_page.show, methods=["GET"]),
    Route("/limits", limits_page.change, methods=["POST"]),
    Route("/limits/unload", limits_page.unload, methods=["POST"]),
    Route("/limits/intake", limits_page.set_intake, methods=["POST"]),
    Route("/api/v1/transcriptions", api.create_transcription, methods=["POST"]),
    Route("/api/v1/links", links.look, methods=["POST"]),
    Route("/api/v1/jobs", api.list_jobs),
    Route("/api/v1/jobs/{id}", api.show_job, methods=["GET"]),
    Route("/api/v1/jobs/{id}", api.delete_job, methods=["DELETE"]),
    Route("/api/v1/jobs/{id}/cancel", api.cancel_job, methods=["POST"]),
    Route("/api/v1/jobs/{id}/retry", api.retry_job, methods=["POST"]),
    Route("/api/v1/jobs/{id}/transcript", api.show_transcript),
    Route("/api/v1/jobs/{id}/attempts", attempts_api.list_attempts),
    Route("/api/v1/jobs/{id}/peaks", media_api.show_peaks),
    Route("/api/v1/jobs/{id}/cover", media_api.show_cover),
    Route("/api/v1/capacity", capacity_api.show_capacity),
    Route("/api/v1/settings", settings_api.show_settings, methods=["GET"]),
    Route("/api/v1/settings", settings_api.change_settings, methods=["PATCH"]),
    Route("/api/v1/settings/changes", settings_api.list_changes),
    Route("/api/v1/pause", settings_api.pause, methods=["POST"]),
    Route("/api/v1/resume", settings_api.resume, methods=["POST"]),
    Route("/api/v1/drain", settings_api.drain, methods=["POST"]),
    Route("/api/v1/unload", settings_api.unload, methods=["POST"]),
    Route("/healthz", api.healthz),
    Route("/readyz", ready.readyz),
    Mount("/static", Static(), name="static"),
]
