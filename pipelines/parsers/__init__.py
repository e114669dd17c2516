"""What is in a file: one module per format.

Rows come in JSON Lines, CSV and Parquet; a document is a Markdown, text, HTML, PDF or DOCX file. What parses bytes that
others made with much code (HTML, PDF, DOCX, Parquet) runs in limited processes (`pool`, `worker`); the rest is read
in place.
"""
