"""What stopping, going back and looking send, which every release since 0.2.0 takes.

An argument that a command sends in addition would make these calls fail with an older database; one
that the database wants in addition would make those of an older command fail. So neither may be.
"""

from collections.abc import Mapping

CALLS: Mapping[str, frozenset[str]] = {
    "engage_kill_switch": frozenset({"name", "reason"}),
    "overview": frozenset({"minutes", "series", "totals"}),
    "pair_status": frozenset({"pair"}),
    "read_flags": frozenset(),
    "release_kill_switch": frozenset({"name", "reason"}),
    "rollback": frozenset(
        {"level", "scope", "reason", "automatic", "dry_run", "expected_step"},
    ),
}
