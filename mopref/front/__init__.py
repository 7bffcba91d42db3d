"""What a model reached at each preference: the front with its indicators, table and files, and even spreading."""

from mopref._faces import public_names as _public_names

from .even import even_preferences as even_preferences
from .front import Front as Front

__all__ = _public_names(globals())
