"""The seam to Supabase: all I/O with the project, and the only importer of its client.

Every method takes and returns records; JSON objects stay in here.
"""

from crossfade.gateway.supabase_gateway import SupabaseGateway
from crossfade.ports import Gateway

__all__ = ["Gateway", "SupabaseGateway"]
