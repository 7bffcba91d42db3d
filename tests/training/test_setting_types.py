"""The check of settings' types is one for all rooms."""

import mopref.setting_types
import mopref.training.setting_types


def test_the_name_stands_for_the_check_that_all_share():
    assert mopref.training.setting_types.python_value is mopref.setting_types.python_value
