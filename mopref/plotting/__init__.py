"""Pictures of fronts and of training, drawn with seaborn's style on figures of their own.

No figure is registered with pyplot, so nothing needs closing and no window opens: a function returns the
:class:`matplotlib.figure.Figure`, and writes it where a path is given (a file appears only when it is complete).
**Every point of a front is drawn.** Colours keep their order for colour-blind readers and in grey print, and what must
be told apart differs in its marker or its dashes as well.
"""

from mopref._faces import public_names as _public_names

from .calibration import plot_calibration as plot_calibration
from .comparison import plot_comparison as plot_comparison
from .fronts import plot_front as plot_front
from .gaps import plot_gaps as plot_gaps
from .heat_map import plot_heat_map as plot_heat_map
from .runs import plot_hypervolume as plot_hypervolume, plot_training as plot_training

__all__ = _public_names(globals())
