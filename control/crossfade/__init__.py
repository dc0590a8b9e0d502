"""crossfade: move a live Supabase project from a V1 format to V2 and back."""

__version__ = "0.1.0"

__all__ = ["__version__"]
