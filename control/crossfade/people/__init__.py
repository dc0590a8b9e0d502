"""People: operators, signing in, the audit of what they did."""
