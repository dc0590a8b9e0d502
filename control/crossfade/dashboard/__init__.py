"""The dashboard: a live page on 127.0.0.1. Panels are pure; ``app`` puts them together."""
