"""The exceptions of crossfade.

::

    CrossfadeError                    one line: what failed, the value, the way out
    ├── UsageError                    exit 2: the command line or the environment is wrong
    │   ├── ConfigError               no URL, no key, or one that cannot be right
    │   ├── InvalidValueError         a percentage, name or id that no server has to judge
    │   └── NotConfirmedError         a change that nobody confirmed
    ├── UnreachableError              nothing answers at the URL            (worth a retry)
    ├── ServerFailedError             HTTP 5xx or no answer in time         (worth a retry)
    ├── UnauthorizedError             HTTP 401/403: the key is wrong or has no right
    │   └── NotSignedInError          the sign-in has ended: crossfade login
    ├── NotInstalledError             schema not exposed, or nothing is installed
    │   ├── OlderSchemaError          the database is older than what this command changes
    │   └── UnknownCallError          a function or table is not there, or takes other parameters
    ├── UnexpectedAnswerError         an answer this version does not understand
    ├── StalledError                  a run that makes no progress
    └── RefusedError                  the database said no; nothing was changed
        ├── UnknownNameError          CF001 CF002 CF003 CF009 CF014 CF015 CF026
        ├── InvalidArgumentError      CF004 CF007 CF012 CF027
        ├── StageRefusedError         CF005, with blockers
        ├── LatchedError              CF006: re-arm first
        ├── RegistrationRefusedError  CF008 CF016
        ├── WrongRunStateError        CF010
        ├── PairChangedError          CF011: table or converter changed
        ├── ConfirmationRequiredError CF013, CF028: a stop is in force
        ├── ExtensionMissingError     CF018
        ├── NotAllowedError           CF020: no operator, or the role is too low
        ├── OperatorError             CF021 CF022
        ├── FlagsChangedError         CF025: read them again
        ├── RolloutStateError         CF023 CF024
        └── FencedError               CF_FENCED CF_ARCHIVED CF_CLOSED

No message and no ``repr`` ever holds a key: ``redact`` is applied to all of them.
"""

import re
from dataclasses import dataclass

from crossfade.core.contract import ErrorCode
from crossfade.core.escaping import escaped

_SECRET = re.compile(r"sb_secret_[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+")


def redact(text: str) -> str:
    """Replace everything that looks like a secret key or a token."""
    return _SECRET.sub("[secret]", text)


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason why a stage cannot be entered; ``pair`` where it may be that of another one."""

    code: str
    message: str
    hint: str | None = None
    pair: str | None = None


class CrossfadeError(Exception):
    """Base of all errors that crossfade raises on purpose.

    Args:
        message: what failed, with the value, without a final stop.
        hint: what to do about it.
        code: ``CF...``, an SQLSTATE, a PostgREST code or an HTTP status, if there is one.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        self.message = escaped(redact(" ".join(message.split())))
        self.hint = escaped(redact(" ".join(hint.split())))
        self.code = code
        super().__init__(self.message)

    def line(self) -> str:
        """The whole error as one line."""
        text = self.message if not self.code else f"{self.message} [{self.code}]"
        return f"{text}. {self.hint}" if self.hint else text


class UsageError(CrossfadeError):
    """The command line or the environment is wrong; nothing was sent."""

    exit_code = 2


class ConfigError(UsageError):
    """No URL or key, or one that cannot be right."""


class InvalidValueError(UsageError):
    """A value that needs no server to be refused."""


class NotConfirmedError(UsageError):
    """A change of state that nobody confirmed."""


class UnreachableError(CrossfadeError):
    """Nothing answers at the URL. ``sent`` False means that the request never left."""

    sent = True


class ServerFailedError(CrossfadeError):
    """The server failed or did not answer in time."""


class UnauthorizedError(CrossfadeError):
    """The key is wrong, or the role behind it may not do this."""


class NotSignedInError(UnauthorizedError):
    """Nobody is signed in, or the sign-in was revoked."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint or "Run: crossfade login", code=code)


class NotInstalledError(CrossfadeError):
    """The schema is not exposed, or nothing is installed."""


class OlderSchemaError(NotInstalledError):
    """The schema is older than what this command was written for."""


class UnknownCallError(NotInstalledError):
    """A function or table that this command uses is not there, or takes other parameters."""


class UnexpectedAnswerError(CrossfadeError):
    """An answer that this version does not understand."""


class StalledError(CrossfadeError):
    """A run that makes no progress, or waits longer than allowed."""


class RefusedError(CrossfadeError):
    """The database refused; nothing was changed."""

    blockers: tuple[Blocker, ...] = ()


class UnknownNameError(RefusedError):
    """No pair, flag, kill switch, run, snapshot or setting of that name."""


class InvalidArgumentError(RefusedError):
    """A value the database does not accept."""


class StageRefusedError(RefusedError):
    """Preconditions of a stage are not met; see ``blockers``."""


class LatchedError(RefusedError):
    """An automatic rollback happened; nothing advances until somebody re-arms."""


class RegistrationRefusedError(RefusedError):
    """The pair cannot be registered as described."""


class WrongRunStateError(RefusedError):
    """The run is not in a state that allows this."""


class PairChangedError(RefusedError):
    """A table or converter changed since the pair was registered or the run began."""


class ConfirmationRequiredError(RefusedError):
    """The step needs an explicit confirmation."""


class ExtensionMissingError(RefusedError):
    """The step needs an extension that the database does not have."""


class NotAllowedError(RefusedError):
    """The signed-in person is no operator, or the role is too low."""


class OperatorError(RefusedError):
    """No such operator or user, or the last admin."""


class RolloutStateError(RefusedError):
    """No rollout is under way for the pair, or another one is."""


class FlagsChangedError(RefusedError):
    """Flags have changed since they were read."""


class FencedError(RefusedError):
    """A direct write was refused by a kill switch or because the table is an archive."""


_BY_CODE: dict[ErrorCode, type[RefusedError]] = {
    ErrorCode.UNKNOWN_PAIR: UnknownNameError,
    ErrorCode.UNKNOWN_FLAG: UnknownNameError,
    ErrorCode.UNKNOWN_KILL_SWITCH: UnknownNameError,
    ErrorCode.INVALID_PERCENTAGE: InvalidArgumentError,
    ErrorCode.STAGE_PRECONDITION: StageRefusedError,
    ErrorCode.LATCHED: LatchedError,
    ErrorCode.REASON_REQUIRED: InvalidArgumentError,
    ErrorCode.REGISTRATION_REFUSED: RegistrationRefusedError,
    ErrorCode.UNKNOWN_RUN: UnknownNameError,
    ErrorCode.RUN_STATE: WrongRunStateError,
    ErrorCode.PAIR_CHANGED: PairChangedError,
    ErrorCode.INVALID_ARGUMENT: InvalidArgumentError,
    ErrorCode.CONFIRMATION_REQUIRED: ConfirmationRequiredError,
    ErrorCode.UNKNOWN_SNAPSHOT: UnknownNameError,
    ErrorCode.UNKNOWN_SETTING: UnknownNameError,
    ErrorCode.PAIR_EXISTS: RegistrationRefusedError,
    ErrorCode.EXTENSION_MISSING: ExtensionMissingError,
    ErrorCode.NOT_ALLOWED: NotAllowedError,
    ErrorCode.UNKNOWN_OPERATOR: OperatorError,
    ErrorCode.LAST_ADMIN: OperatorError,
    ErrorCode.NO_ROLLOUT: RolloutStateError,
    ErrorCode.ROLLOUT_UNDER_WAY: RolloutStateError,
    ErrorCode.FLAGS_CHANGED: FlagsChangedError,
    ErrorCode.UNKNOWN_SCHEDULE: UnknownNameError,
    ErrorCode.BUILT_IN: InvalidArgumentError,
    ErrorCode.STOPPED: ConfirmationRequiredError,
    ErrorCode.FENCED: FencedError,
    ErrorCode.ARCHIVED: FencedError,
    ErrorCode.CLOSED: FencedError,
}


def refusal(
    code: str, message: str, *, hint: str = "", blockers: tuple[Blocker, ...] = ()
) -> RefusedError:
    """Build the exception for a ``detail.code``; ``RefusedError`` when the code is unknown here."""
    known = code in ErrorCode.__members__.values()
    kind = _BY_CODE[ErrorCode(code)] if known else RefusedError
    error = kind(message, hint=hint, code=code)
    error.blockers = blockers
    return error


def is_transient(error: BaseException) -> bool:
    """True when the same call may work a moment later."""
    return isinstance(error, UnreachableError | ServerFailedError)
