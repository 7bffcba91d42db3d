"""Objectives: what is minimised. One family a file, and its line here."""

from mopref._faces import public_names as _public_names
from mopref.problem import Problem as Problem

from .dpo import DPO as DPO
from .dtlz import DTLZ1 as DTLZ1, DTLZ2 as DTLZ2, DTLZ3 as DTLZ3, DTLZ4 as DTLZ4, InvertedDTLZ1 as InvertedDTLZ1
from .kto import KTO as KTO
from .online_dpo import OnlineDPO as OnlineDPO
from .orpo import ORPO as ORPO
from .quadratic import Quadratic as Quadratic
from .real_world import RE21 as RE21, RE24 as RE24, RE33 as RE33, RE37 as RE37
from .rlhf import RLHF as RLHF
from .sft import SFT as SFT
from .simpo import SimPO as SimPO
from .vlmop import VLMOP1 as VLMOP1, VLMOP2 as VLMOP2, VLMOP3 as VLMOP3
from .zdt import ZDT1 as ZDT1, ZDT2 as ZDT2, ZDT3 as ZDT3, ZDT4 as ZDT4, ZDT6 as ZDT6, ScaledZDT1 as ScaledZDT1

__all__ = _public_names(globals())
