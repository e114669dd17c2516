"""What the worker counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.common.metrics import REGISTRY

JOBS = Counter("almanac_jobs", "Jobs that have ended, by kind and how.", ("kind", "state"), registry=REGISTRY)
PASSAGES = Counter("almanac_ingested_passages", "Passages of the jobs that have ended.", registry=REGISTRY)
QUEUED = Gauge("almanac_queue_length", "Tasks that wait in a queue.", ("queue",), registry=REGISTRY)
RETRIES = Counter("almanac_job_retries", "Waits of jobs for what does not answer.", ("kind",), registry=REGISTRY)
