"""What Feast can date."""

from services.common.moment import Span, parse_instant

FEAST_SPAN = Span(parse_instant("1678-01-01"), parse_instant("2262-01-01"))
"""What pandas' nanoseconds can hold, in whole years; Feast reads nothing else."""
