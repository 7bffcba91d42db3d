"""Real-world problems: four of the RE suite, engineering designs with simple formulas and awkward ranges.

Their objectives differ by orders of magnitude, and a constraint of the original design is an objective here: the sum of
the violations, 0 where the design is allowed.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.problem import Problem, checks_variables
from mopref.registry import OBJECTIVES

from .even_points import even_along
from .stored_sets import StoredSetProblem

__all__ = ["RE21", "RE24", "RE33", "RE37"]


@OBJECTIVES.register("re21")
class RE21(Problem):
    """Four bar truss: structural volume f1 and displacement of the joint f2 of four cross-sections x.

    With force F = 10, elasticity E = 2·10⁵, length L = 200 and stress limit σ = 10:

        f1 = L · (2 x_1 + √2 x_2 + √x_3 + x_4)
        f2 = F L / E · (2 / x_1 + 2√2 / x_2 − 2√2 / x_3 + 2 / x_4)

    x_1 and x_4 in [1, 3], x_2 and x_3 in [√2, 3], in units of F / σ = 1. Both objectives rise with x_3, so it is at its
    lower bound; what remains is convex and a sum over the variables, so the minimisers of f1 + c · f2 are known:
    x_1 = t and x_2 = x_4 = √2 t, each kept inside its bounds, for t from 1/√2 to 3. f1 runs from 1,238 to 2,886, f2
    from 0.0028 to 0.04.

    Source: R. Tanabe and H. Ishibuchi, An Easy-to-Use Real-World Multi-Objective Optimization Problem Suite (2020),
    after F. Cheng and X. Li (1999).

    Example:
        >>> RE21().evaluate(torch.tensor([[1.0, 2.0**0.5, 2.0**0.5, 1.0]]))
        tensor([[1.2378e+03, 4.0000e-02]])
    """

    # The smallest and the largest t of the minimisers.
    _ENDS = (1 / math.sqrt(2), 3.0)

    @checks_arguments
    def __init__(self) -> None:
        root = math.sqrt(2)
        bounds = ([1.0, root, root, 1.0], 3.0)
        super().__init__(4, 2, bounds, names=("volume", "displacement"))
        ends = self.evaluate(self._optimal(torch.tensor(self._ENDS, dtype=torch.float64)))
        self.ideal_point, self.nadir_point = ends.amin(dim=0), ends.amax(dim=0)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, 4)`` to ``(N, 2)``."""
        x1, x2, x3, x4 = x.unbind(dim=-1)
        root = math.sqrt(2)
        volume = 200 * (2 * x1 + root * x2 + x3.sqrt() + x4)
        displacement = 0.02 * (1 / x1 + root / x2 - root / x3 + 1 / x4)
        return torch.stack([volume, displacement], dim=-1)

    def _optimal(self, t: Tensor) -> Tensor:
        root = math.sqrt(2)
        x = torch.stack([t, root * t, torch.zeros_like(t), root * t], dim=-1)
        lower, upper = self.bounds
        return x.clamp(lower, upper)

    def pareto_set(self, num_points: int) -> Tensor:
        """x(t), from the smallest volume to the largest: ``(num_points, 4)``."""
        t = even_along(lambda t: self.evaluate(self._optimal(t)), [self._ENDS], num_points)
        return self._optimal(t)


@OBJECTIVES.register("re24")
class RE24(Problem):
    """Hatch cover: weight f1 and violated limits f2 of flange thickness x_1 and beam height x_2.

    f1 = x_1 + 120 x_2, and f2 = Σ_i max(0, u_i − 1), where each u_i is how much of a limit is used up:

        bending stress   u_1 = 4500 / (700 x_1 x_2)
        shear stress     u_2 = 1800 / (450 x_2)
        deflection       u_3 = 562000 / (1.5 · 700000 x_1 x_2²)
        buckling         u_4 = 4500 · 100 / (700000 x_1³ x_2)

    x_1 in [0.5, 4], x_2 in [0.5, 50]. f1 is linear and f2 convex. From the lightest cover that is allowed, at x_2 = 4,
    the Pareto set follows u_1 = 1 to x_1 = 4, then x_1 = 4 to x_2 = 0.5, and then x_2 = 0.5 to x_1 = 0.5. f1 runs from
    60.5 to 481.6, f2 from 0 to 44.2.

    Source: R. Tanabe and H. Ishibuchi, An Easy-to-Use Real-World Multi-Objective Optimization Problem Suite (2020),
    after H. Amir and T. Hasegawa (1989).

    Example:
        >>> RE24().evaluate(torch.tensor([[2.0, 4.0], [4.0, 1.0]]))
        tensor([[482.0000,   0.0000],
                [124.0000,   3.6071]])
    """

    @checks_arguments
    def __init__(self) -> None:
        super().__init__(2, 2, (0.5, [4.0, 50.0]), names=("weight", "violation"))
        ends = self.evaluate(self._optimal(torch.tensor([0.0, 3.0], dtype=torch.float64)))
        self.ideal_point, self.nadir_point = ends.amin(dim=0), ends.amax(dim=0)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1 and f2: ``(N, 2)`` to ``(N, 2)``."""
        thickness, height = x.unbind(dim=-1)
        area = thickness * height
        shares = [
            45 / 7 / area,
            4 / height,
            562 / 1050 / (area * height),
            9 / 14 / (thickness.square() * area),
        ]
        violation = sum((torch.relu(share - 1) for share in shares), torch.zeros_like(area))
        return torch.stack([thickness + 120 * height, violation], dim=-1)

    def _optimal(self, t: Tensor) -> Tensor:
        """The Pareto set, a stretch for each of t in [0, 1], [1, 2] and [2, 3]."""
        corner = 45 / 28
        height = 4 - (4 - corner) * t.clamp(0, 1) - (corner - 0.5) * (t - 1).clamp(0, 1)
        thickness = (45 / 7 / height).clamp(max=4.0) - 3.5 * (t - 2).clamp(0, 1)
        return torch.stack([thickness, height], dim=-1)

    def pareto_set(self, num_points: int) -> Tensor:
        """From the heaviest cover, which violates nothing, to the lightest: ``(num_points, 2)``."""
        stretches = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
        t = even_along(lambda t: self.evaluate(self._optimal(t)), stretches, num_points)
        return self._optimal(t)


# In RE33, x_2 − x_1 counts as this where a formula divides by it and it is smaller.
_SMALLEST_GAP = 1e-6


@OBJECTIVES.register("re33")
class RE33(StoredSetProblem):
    """Disc brake: mass f1, stopping time f2 and violated limits f3.

    Of inner radius x_1, outer radius x_2, engaging force x_3 and number of friction surfaces x_4 (not rounded), with
    d = x_2 − x_1, s = x_1 + x_2 and q = x_1² + x_1 x_2 + x_2²:

        f1 = 4.9·10⁻⁵ · d s · (x_4 − 1)
        f2 = 9.82·10⁶ · s / (q x_3 x_4)
        f3 = Σ_i max(0, −g_i), where
            g_1 = d − 20                             distance between the radii
            g_2 = 0.4 − x_3 / (3.14 d s)             pressure
            g_3 = 1 − 2.22·10⁻³ · x_3 q / (d s²)     temperature
            g_4 = 2.66·10⁻² · x_3 x_4 q / s − 900    torque

    x_1 in [55, 80], x_2 in [75, 110], x_3 in [1000, 3000], x_4 in [11, 20]. As published, the box holds inner radii
    above the outer one: there f1 is negative, and a part of the front lies there. As x_2 falls to x_1, f3 grows without
    bound and f2 still falls a little, so the front has no finite nadir point; the stored points end at f3 = 25, the
    most of the part with inner radii above the outer one. Where d is within 10⁻⁶ of 0, g_2 and g_3 are those of a
    distance of 10⁻⁶, so that values and gradients are finite.

    Source: R. Tanabe and H. Ishibuchi, An Easy-to-Use Real-World Multi-Objective Optimization Problem Suite (2020),
    after T. Ray and K. Liew (2002).

    Example:
        >>> RE33().evaluate(torch.tensor([[55.0, 75.0, 1000.0, 11.0]]))
        tensor([[1.2740, 9.0845, 0.0000]])
    """

    @checks_arguments
    def __init__(self) -> None:
        bounds = ([55.0, 75.0, 1000.0, 11.0], [80.0, 110.0, 3000.0, 20.0])
        super().__init__("re33.csv", 4, 3, bounds, names=("mass", "stopping time", "violation"))

    def margins(self, x: Tensor) -> Tensor:
        """g_1 … g_4, at least 0 where a limit is kept: ``(N, 4)`` to ``(N, 4)``."""
        inner, outer, force, surfaces = x.unbind(dim=-1)
        distance, total = outer - inner, inner + outer
        quadratic = inner.square() + inner * outer + outer.square()
        edge = torch.where(distance < 0, -_SMALLEST_GAP, _SMALLEST_GAP)
        divisor = torch.where(distance.abs() < _SMALLEST_GAP, edge.to(x), distance)
        margins = [
            distance - 20,
            0.4 - force / (3.14 * divisor * total),
            1 - 2.22e-3 * force * quadratic / (divisor * total.square()),
            2.66e-2 * force * surfaces * quadratic / total - 900,
        ]
        return torch.stack(margins, dim=-1)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1, f2 and f3: ``(N, 4)`` to ``(N, 3)``."""
        inner, outer, force, surfaces = x.unbind(dim=-1)
        total = inner + outer
        quadratic = inner.square() + inner * outer + outer.square()
        mass = 4.9e-5 * (outer - inner) * total * (surfaces - 1)
        time = 9.82e6 * total / (quadratic * force * surfaces)
        return torch.stack([mass, time, torch.relu(-self.margins(x)).sum(dim=-1)], dim=-1)


# RE37's polynomials: for each product of variables (a: x_1, h: x_2, o: x_3, p: x_4), its factor in f1, f2 and f3.
_ROCKET: Mapping[str, tuple[float, float, float]] = {
    "": (0.692, 0.153, 0.370),
    "a": (0.477, -0.322, -0.205),
    "h": (-0.687, 0.396, 0.0307),
    "o": (-0.080, 0.424, 0.108),
    "p": (-0.0650, 0.0226, 1.019),
    "aa": (-0.167, 0.175, -0.135),
    "ah": (-0.0129, 0.0185, 0.0141),
    "hh": (0.0796, -0.0701, 0.0998),
    "ao": (-0.0634, -0.251, 0.208),
    "ho": (-0.0257, 0.179, -0.0301),
    "oo": (0.0877, 0.0150, -0.226),
    "ap": (-0.0521, 0.0134, 0.353),
    "hp": (0.00156, 0.0296, 0.0),
    "op": (0.00198, 0.0752, -0.0497),
    "pp": (0.0184, 0.0192, -0.423),
    "aah": (0.0, 0.0, 0.202),
    "aao": (0.0, 0.0, -0.281),
    "ahh": (0.0, 0.0, -0.342),
    "hho": (0.0, 0.0, -0.245),
    "hoo": (0.0, 0.0, 0.281),
    "app": (0.0, 0.0, -0.184),
    "aho": (0.0, 0.0, -0.281),
}


@OBJECTIVES.register("re37")
class RE37(StoredSetProblem):
    """Rocket injector: temperature of its face f1, length of combustion f2 and temperature of its tip f3, all scaled.

    Of hydrogen flow angle x_1, hydrogen area x_2, oxygen area x_3 and oxidiser post thickness x_4, all scaled to
    [0, 1]: polynomials fitted to simulations, of degree 2 for f1 and f2 and of degree 3 for f3. Their factors are in
    this file. The front is known from stored points only.

    Source: R. Tanabe and H. Ishibuchi, An Easy-to-Use Real-World Multi-Objective Optimization Problem Suite (2020),
    after R. Vaidyanathan, K. Tucker, N. Papila and W. Shyy (2003) and T. Goel and others (2007).

    Example:
        >>> RE37().evaluate(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
        tensor([[0.6920, 0.1530, 0.3700],
                [0.0846, 0.4789, 0.5005]])
    """

    @checks_arguments
    def __init__(self) -> None:
        names = ("face temperature", "combustion length", "tip temperature")
        super().__init__("re37.csv", num_variables=4, num_objectives=3, names=names)

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """f1, f2 and f3: ``(N, 4)`` to ``(N, 3)``."""
        variables = dict(zip("ahop", x.unbind(dim=-1), strict=True))
        one = torch.ones_like(variables["a"])
        products = [math.prod((variables[name] for name in key), start=one) for key in _ROCKET]
        return torch.stack(products, dim=-1) @ x.new_tensor(list(_ROCKET.values()))
