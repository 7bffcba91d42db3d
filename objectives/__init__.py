"""Objectives (synthetic problems and DPO); see problem.py."""
from .dpo import DPO
__all__=["DPO"]
