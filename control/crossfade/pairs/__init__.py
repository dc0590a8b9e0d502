"""Pairs: their tables, converters, stages; drafting, checking and carrying them."""
