"""What the rest of crossfade needs from the database, as protocols.

A module asks for the smallest one it can work with. ``gateway.SupabaseGateway`` is the real one,
``testing.FakeGateway`` the one for tests.
"""

from typing import Protocol

from crossfade.flags.port import ChangeSets, Controls
from crossfade.health.port import Health
from crossfade.pairs.port import Pairs
from crossfade.people.port import Audit, Operators
from crossfade.rollback.port import Rollbacks, Snapshots
from crossfade.rollouts.port import Rollouts
from crossfade.runs.port import Runs
from crossfade.views.port import Doctor, Overviews


class Gateway(
    Controls,
    Runs,
    Pairs,
    Health,
    Rollouts,
    Rollbacks,
    Snapshots,
    Audit,
    ChangeSets,
    Doctor,
    Operators,
    Overviews,
    Protocol,
):
    """Everything."""

    @property
    def url(self) -> str:
        """Where this gateway talks to."""

    def check_schema(self) -> int:
        """Return the schema version.

        Raises:
            OlderSchemaError: it is older than what this command was written for.
            NotInstalledError: there is none.
        """

    def installed_release(self) -> str:
        """Return the release that was installed last; empty for one that does not say."""
