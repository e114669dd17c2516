"""Measuring the running stack against data with known answers. Pure functions; the asking is done by `almanac eval`."""

from pipelines.evaluation.figures import Json, Targets, holds, read_lines, share

__all__ = ["Json", "Targets", "holds", "read_lines", "share"]
