"""What a result is measured against: exact optima on known fronts, and global search where optima are many."""

from .global_search import (
    SearchResult as SearchResult,
    global_search as global_search,
    warm_start as warm_start,
)
from .oracle import Optimum as Optimum, scalarizer_optimum as scalarizer_optimum
