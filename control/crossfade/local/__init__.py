"""The embedded Supabase: PostgreSQL, Data API, Auth, Realtime and edge functions on 127.0.0.1.

A development stand-in; DIFFERENCES.md says where it differs from a hosted project.
"""

from crossfade.local.errors import LocalStackError, StackNotRunningError, StackStartError
from crossfade.local.postgres import PostgresServer
from crossfade.local.stack import LocalStack, running_stack, stop_stack
from crossfade.local.state import StackInfo

__all__ = [
    "LocalStack",
    "LocalStackError",
    "PostgresServer",
    "StackInfo",
    "StackNotRunningError",
    "StackStartError",
    "running_stack",
    "stop_stack",
]
