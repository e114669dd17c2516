"""The view of what documents were used for, as the catalog writes it and the rank step reads it."""

from __future__ import annotations

USAGE = "usage"
"""The feature view's name, as `feature_repo` defines it."""

RETRIEVED, CITED, HELPFUL, UNHELPFUL = MEASURES = ("retrieved", "cited", "helpful", "unhelpful")
DAY, WEEK, MONTH, EVER = WINDOWS = ("1d", "7d", "30d", "ever")
"""A day, 7 days, 30 days, and for ever."""

FIELDS = tuple(f"{measure}_{window}" for measure in MEASURES for window in WINDOWS)
"""Each an integer: how often, over the window that ends at the moment."""
