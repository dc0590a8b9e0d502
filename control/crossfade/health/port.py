"""What measuring needs of the database."""

from collections.abc import Sequence
from typing import Protocol

from crossfade.flags.model import Exposure
from crossfade.health.model import HealthSample, Lease, MonitorDriven
from crossfade.health.verdicts import Verdict
from crossfade.runs.model import Look


class Health(Protocol):
    """Measuring."""

    def health_sample(self, pair: str) -> HealthSample:
        """Return what the rules look at."""

    def verify_some(self, pair: str, *, max_rows: int) -> Look:
        """Compare the next rows of a pair, round and round."""

    def record_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Count answers of flags; names that are no flag are ignored."""

    def record_verdicts(self, pair: str, verdicts: Sequence[Verdict]) -> None:
        """Store one evaluation."""

    def latest_verdicts(self, pair: str) -> tuple[Verdict, ...]:
        """Return the newest stored verdict of each rule."""

    def monitor_beat(self, holder: str, *, release: bool = False) -> Lease:
        """Say that this monitor lives, and learn whether it decides."""

    def drive_monitor(self, *, enabled: bool) -> MonitorDriven:
        """Let pg_cron watch inside the database while no monitor lives, or no longer."""
