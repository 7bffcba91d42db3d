"""The check of settings' types that all options share, also under its name among a training's modules."""

from mopref.setting_types import python_value as python_value

__all__ = ["python_value"]
