"""Preference data: records, loaders of public data sets, and token ids."""

from mopref._faces import public_names as _public_names

from .loaders import (
    DataSource as DataSource,
    LoadReport as LoadReport,
    load_beavertails as load_beavertails,
    load_graded_pairs as load_graded_pairs,
    load_hh_rlhf as load_hh_rlhf,
    load_pku_saferlhf as load_pku_saferlhf,
    load_preference_pairs as load_preference_pairs,
    load_rated_answers as load_rated_answers,
    load_records as load_records,
    load_unpaired_preferences as load_unpaired_preferences,
    load_unpaired_records as load_unpaired_records,
    recognise_shape as recognise_shape,
)
from .mismatches import with_mismatches as with_mismatches
from .records import (
    label_counts as label_counts,
    split_by_prompt as split_by_prompt,
    validate_records as validate_records,
    validate_response_records as validate_response_records,
)
from .tokenization import (
    plain_text_rows as plain_text_rows,
    tokenize_prompts as tokenize_prompts,
    tokenize_records as tokenize_records,
    tokenize_responses as tokenize_responses,
    tokenize_unpaired as tokenize_unpaired,
)
from .unpaired_records import validate_unpaired_records as validate_unpaired_records

__all__ = _public_names(globals())
