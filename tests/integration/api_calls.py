"""What the tests of the Data API share."""

import uuid
from typing import Any

from supabase import Client


def sign_up(client: Client) -> str:
    email = f"{uuid.uuid4()}@example.com"
    answer = client.auth.sign_up({"email": email, "password": "correct horse"})
    assert answer.user is not None
    return answer.user.id


def run(query: Any) -> Any:
    """Return the rows; supabase-py's own type of them is too narrow to index."""
    return query.execute().data


def call(client: Client, function: str, **arguments: Any) -> Any:
    return run(client.schema("crossfade").rpc(function, arguments))
