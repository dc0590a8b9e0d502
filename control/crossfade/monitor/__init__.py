"""The loop that watches, and whom it tells."""
