"""Public data sets and own files as preference records. One loader a file, and its line here."""

from mopref._faces import public_names as _public_names

from .beavertails import load_beavertails as load_beavertails
from .graded_pairs import load_graded_pairs as load_graded_pairs
from .hh_rlhf import load_hh_rlhf as load_hh_rlhf
from .loader import LOADERS as LOADERS
from .own_records import load_records as load_records
from .own_unpaired_records import load_unpaired_records as load_unpaired_records
from .pku_saferlhf import load_pku_saferlhf as load_pku_saferlhf
from .preference_pairs import load_preference_pairs as load_preference_pairs
from .rated_answers import load_rated_answers as load_rated_answers
from .report import LoadReport as LoadReport
from .shapes import recognise_shape as recognise_shape
from .sources import DataSource as DataSource
from .unpaired_preferences import load_unpaired_preferences as load_unpaired_preferences

__all__ = _public_names(globals())
