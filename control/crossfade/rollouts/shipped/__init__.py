"""Rollout plans that come with crossfade."""
