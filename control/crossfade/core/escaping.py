r"""The one boundary by which text of the database, a user or an operator leaves.

It goes to terminals, JSON, logs, alerts and files. What a terminal obeys (C0, C1), what turns the
reading direction round (bidi) and what ends a line is written as ``\u001b``: visible, and inert. In
JSON and TOML strings the same spelling stands for the character itself.
"""

import logging
import re

_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """One value on one line: nothing odd is left, line ends included."""
    return _ODD.sub(_escape, text)


def escaped_lines(text: str) -> str:
    """Text of several lines of ours; its values were escaped before they were put together."""
    return "\n".join(map(escaped, text.split("\n")))


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class EscapingFormatter(logging.Formatter):
    """Log lines: a message is one line; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The line without the traceback."""
        record.message = escaped(record.message)
        return super().formatMessage(record)
