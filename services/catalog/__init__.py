"""The source of truth."""

import os

# Arrow's own allocator keeps a heap for every thread that ever read or wrote a file: the worker's memory would grow
# with what it has ingested. Arrow reads this when it is first imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
