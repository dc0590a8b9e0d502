"""A gateway in memory, for tests of your own automation: no server, no network.

It keeps the rules a control plane has to cope with (unknown names, refused stages, the latch,
batches that wait), not those of SQL. ``calls`` holds what was asked, ``fail`` makes it break.
"""

from crossfade.testing.change_sets import FakeChangeSets
from crossfade.testing.controls import FakeControls
from crossfade.testing.past import FakePast
from crossfade.testing.people import FakePeople
from crossfade.testing.rollouts import FakeRollouts
from crossfade.testing.state import NOW
from crossfade.testing.views import FakeViews
from crossfade.testing.work import FakeWork

__all__ = ["NOW", "FakeGateway"]


class FakeGateway(
    FakeChangeSets, FakeControls, FakeWork, FakePast, FakePeople, FakeRollouts, FakeViews
):
    """Implements ``Gateway`` over plain attributes, which tests may set."""
