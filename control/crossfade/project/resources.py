"""Where the SQL and the edge functions lie: the checkout, or the copies in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_BUNDLED = _PACKAGE / "_bundled"
# control/crossfade -> the checkout
_CHECKOUT = _PACKAGE.parent.parent


def resource(relative: str) -> Path:
    """Return the path of a file or folder of the project, such as ``supabase/migrations``.

    The checkout wins where there is one, so that an editable install sees every edit.

    Raises:
        FileNotFoundError: neither place has it.
    """
    for root in (_CHECKOUT, _BUNDLED):
        path = root / relative
        # A wheel lies in site-packages, whose neighbours may have a folder of the same name.
        if path.exists() and (root == _BUNDLED or (root / "pyproject.toml").exists()):
            return path
    raise FileNotFoundError(f"crossfade has no resource {relative}")


def migrations_dir() -> Path:
    """Return the folder of the migrations."""
    return resource("supabase/migrations")


def schema_dir() -> Path:
    """Return the folder of the schema's sources."""
    return resource("sql/schema")


def functions_dir() -> Path:
    """Return the folder of the edge functions."""
    return resource("supabase/functions")


def pairs_dir() -> Path:
    """Return the folder of the worked pairs."""
    return resource("sql/pairs")
