"""Health: samples, rules, verdicts. Pure."""
