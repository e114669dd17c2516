"""What the embedded engines share: rows in files of their own, exact extents in memory, BM25's postings, and builds.

An engine adds what chooses candidates among many rows (`coarse.Kind`).
"""
