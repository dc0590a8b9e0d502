"""What a command line needs to work: settings, and a gateway opened when first used."""

from collections.abc import Callable
from dataclasses import dataclass

import typer

from crossfade.config import Connection, Settings, connect_to, load_settings
from crossfade.ports import Gateway


@dataclass(slots=True)
class Session:
    """One run of the command line. Tests give it a gateway."""

    settings: Settings | None = None
    opened: Gateway | None = None
    checked: bool = False
    source: str = "environment"
    _close: Callable[[], None] | None = None
    _connection: Connection | None = None

    def gateway(self, *, check: bool = True) -> Gateway:
        """Connect, once.

        Args:
            check: compare the schema version first, so that an old schema is one clear line. An
                emergency stop skips it: it must not wait for, or be refused by, a check.
        """
        if self.opened is None:
            from crossfade.gateway import SupabaseGateway  # slow to import, so only when needed

            connection = self.connection()
            self.source = connection.source
            real = SupabaseGateway(connection)
            self.opened, self._close = real, real.close
        if check and not self.checked:
            self.opened.check_schema()
            self.checked = True
        return self.opened

    def connection(self) -> Connection:
        """Where to connect, decided once."""
        if self._connection is None:
            self._connection = connect_to(self.settings or load_settings())
        return self._connection

    def close(self) -> None:
        """Close what was opened here; a gateway that was given stays open."""
        if self._close:
            self._close()


def session(context: typer.Context) -> Session:
    """The session of this command line."""
    found = context.find_object(Session)
    return found if found is not None else Session()


def gateway(context: typer.Context) -> Gateway:
    """The gateway of this command line, with its schema checked."""
    return session(context).gateway()
