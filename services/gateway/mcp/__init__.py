"""Almanac's tools over the Model Context Protocol: the same questions, keys and limits as over HTTP."""
