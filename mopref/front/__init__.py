"""What a model reached at each preference: the front with its indicators, table and files, and even spreading."""

from .even import even_preferences as even_preferences
from .front import Front as Front
