"""Backfill, verification, repair: batches one after the other."""
