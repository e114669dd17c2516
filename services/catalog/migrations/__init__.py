"""Alembic's folder: one revision a released schema, numbered, in a line."""
