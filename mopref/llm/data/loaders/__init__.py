"""Public data sets and own files as preference records. One loader a file, and its line here."""

from mopref._faces import public_names as _public_names

from .hh_rlhf import load_hh_rlhf as load_hh_rlhf
from .loader import LOADERS as LOADERS
from .own_records import load_records as load_records
from .pku_saferlhf import load_pku_saferlhf as load_pku_saferlhf

__all__ = _public_names(globals())
