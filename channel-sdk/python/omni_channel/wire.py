"""Written in a moment."""
from typing import Any
ConnectionState = ErrorCode = NextActor = Any
