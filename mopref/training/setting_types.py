"""The types of a training's settings: the check that all options share, under the name it has always had here."""

from mopref.setting_types import python_value as python_value

__all__ = ["python_value"]
