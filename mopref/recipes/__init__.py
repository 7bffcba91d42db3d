"""Recipes: a run as typed settings, and what trains and evaluates it."""

from mopref._faces import public_names as _public_names

from .comparison import Comparison as Comparison, compare as compare, write_comparison as write_comparison
from .comparison_text import comparison_text as comparison_text
from .evaluation import evaluate as evaluate
from .hub import Upload as Upload, push_to_hub as push_to_hub
from .method_comparison import MethodComparison as MethodComparison, compare_methods as compare_methods
from .method_plan import (
    ComparisonSettings as ComparisonSettings,
    MethodRecipe as MethodRecipe,
    load_method_recipe as load_method_recipe,
)
from .mistakes import RecipeError as RecipeError, RunFolderError as RunFolderError
from .model_card import model_card as model_card, write_model_card as write_model_card
from .reading import load_recipe as load_recipe, recipe_text as recipe_text, save_recipe as save_recipe
from .recipe import (
    AdapterSettings as AdapterSettings,
    DataSettings as DataSettings,
    EvaluationSettings as EvaluationSettings,
    ModelSettings as ModelSettings,
    MonitoringSettings as MonitoringSettings,
    PartSettings as PartSettings,
    Recipe as Recipe,
    TrainingSettings as TrainingSettings,
)
from .report import report as report
from .run import Run as Run, open_run as open_run
from .training import train as train

__all__ = _public_names(globals())
