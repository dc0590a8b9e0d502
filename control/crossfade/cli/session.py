"""What a command line needs to work: settings, and a gateway opened when first used."""

from collections.abc import Callable
from dataclasses import dataclass

import typer

from crossfade.cli.output import say
from crossfade.connect import connect_to
from crossfade.core.errors import CrossfadeError, OlderSchemaError
from crossfade.core.versions import explained, is_of_versions, newer_schema
from crossfade.ports import Gateway
from crossfade.project.config import Connection, Settings, load_settings


@dataclass(slots=True)
class Session:
    """One run of the command line. Tests give it a gateway."""

    settings: Settings | None = None
    opened: Gateway | None = None
    checked: bool = False
    source: str = "environment"
    _close: Callable[[], None] | None = None
    _connection: Connection | None = None

    def gateway(self, *, check: bool = True, older: bool = False) -> Gateway:
        """Connect, once.

        Args:
            check: compare the schema version first, so that an old schema is one clear line. An
                emergency stop skips it: it must not wait for, or be refused by, a check.
            older: go on with an older schema, and say so: for what must work with every one.
        """
        if self.opened is None:
            from crossfade.gateway import SupabaseGateway  # slow to import, so only when needed

            connection = self.connection()
            self.source = connection.source
            real = SupabaseGateway(connection)
            self.opened, self._close = real, real.close
        if check and not self.checked:
            self._check(self.opened, older)
            self.checked = True
        return self.opened

    def _check(self, opened: Gateway, older: bool) -> None:
        try:
            warning = newer_schema(opened.check_schema(), opened.url)
        except OlderSchemaError as error:
            if not older:
                raise
            warning = error.line()
        if warning:
            say(f"Warning: {warning}")

    def explained(self, error: CrossfadeError) -> CrossfadeError:
        """Return the error with what to upgrade, where that may be its cause."""
        if self.opened is None or not is_of_versions(error):
            return error
        try:
            return explained(error, self.opened.installed_release())
        except CrossfadeError:
            return error  # the first one says more

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


def gateway(context: typer.Context, *, older: bool = False) -> Gateway:
    """The gateway of this command line, with its schema checked."""
    return session(context).gateway(older=older)
