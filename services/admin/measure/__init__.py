"""The measurements of `almanac eval`, against a running gateway, one module each."""
