"""Flags, cohorts, kill switches: what they are, how they are evaluated and changed."""
