"""Convex quadratics: the problem whose linear scalarization has its optimum in closed form."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.preferences import simplex_lattice, validate_preferences
from mopref.problem import Problem, checks_variables

__all__ = ["Quadratic"]


class Quadratic(Problem):
    """f_i(x) = (x − a_i)ᵀ M_i (x − a_i), with M_i symmetric positive definite; the identity by default.

    The front is convex, so linear scalarization reaches all of it: the minimiser of Σ_i λ_i f_i is
    x(λ) = (Σ_i λ_i M_i)⁻¹ Σ_i λ_i M_i a_i, which is Σ_i λ_i a_i for the identity (see :meth:`optimum`).

    The bounds are a cube around the mean of the centres that holds x(λ) for every λ. The nadir point is known with
    two objectives, or with the identity; it is ``None`` otherwise.

    Args:
        centers: a_i, ``(m, n)``: tensor or nested lists.
        matrices: M_i, ``(m, n, n)``; ``None`` for the identity.
        names: one name per objective; f1 … fm by default.

    Raises:
        ValueError: shapes that do not match, numbers that are not finite, or a matrix that is not symmetric positive
            definite.

    Example:
        >>> problem = Quadratic([[0.0, 0.0], [1.0, 0.0]])
        >>> problem.evaluate(torch.tensor([[0.0, 2.0]]))
        tensor([[4., 5.]])
        >>> problem.optimum([0.25, 0.75])
        tensor([[0.7500, 0.0000]], dtype=torch.float64)
    """

    @checks_arguments
    def __init__(
        self,
        centers: Tensor | Sequence[Sequence[float]],
        matrices: Tensor | Sequence[Sequence[Sequence[float]]] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        points = torch.as_tensor(centers, dtype=torch.float64).detach().clone()
        if points.ndim != 2 or points.numel() == 0 or not points.isfinite().all():
            raise ValueError(
                f"centers have shape {tuple(points.shape)}: give finite numbers, one row for each objective, one "
                "column for each variable."
            )
        m, n = points.shape
        if matrices is None:
            forms = torch.eye(n, dtype=torch.float64).expand(m, n, n).clone()
        else:
            forms = _checked_matrices(torch.as_tensor(matrices, dtype=torch.float64).detach().clone(), m, n)
        # With S = Σ λ_i M_i and c the mean centre, x(λ) − c = S⁻¹ Σ λ_i M_i (a_i − c), so its length is at most
        # (largest eigenvalue / smallest eigenvalue) · max ‖a_i − c‖.
        eigenvalues = torch.linalg.eigvalsh(forms)
        middle = points.mean(dim=0)
        farthest = torch.linalg.vector_norm(points - middle, dim=1).max()
        reach = float(1.1 * eigenvalues.max() / eigenvalues.min() * farthest) or 1.0
        super().__init__(n, m, (middle - reach, middle + reach), names)
        self.centers, self.matrices = points, forms
        self._is_identity = matrices is None
        self.ideal_point = torch.zeros(m, dtype=torch.float64)
        if matrices is None or m == 2:
            # Convex functions on the hull of the centres, or on the curve between two of them: largest at a centre.
            self.nadir_point = self.evaluate(points).amax(dim=0)

    def options(self) -> dict[str, Any]:
        """The centres, the matrices (``None`` for the identity) and the names."""
        return {
            "centers": self.centers,
            "matrices": None if self._is_identity else self.matrices,
            "names": self.names,
        }

    @checks_variables
    def evaluate(self, x: Tensor) -> Tensor:
        """(x − a_i)ᵀ M_i (x − a_i): ``(N, n)`` to ``(N, m)``."""
        difference = x.unsqueeze(-2) - self.centers.to(x)
        return torch.einsum("...mi,mij,...mj->...m", difference, self.matrices.to(x), difference)

    def optimum(self, preferences: Any) -> Tensor:
        """The minimiser x(λ) of Σ_i λ_i f_i: preferences ``(N, m)`` to ``(N, n)``, float64.

        Raises:
            ValueError: preferences that do not lie on the simplex.
        """
        weights = validate_preferences(preferences, self.names).detach().to(self.centers)
        matrix = torch.einsum("km,mij->kij", weights, self.matrices)
        target = torch.einsum("km,mij,mj->ki", weights, self.matrices, self.centers)
        return torch.linalg.solve(matrix, target)

    def pareto_set(self, num_points: int) -> Tensor:
        """x(λ) at evenly spread λ, every centre among them: ``(≤ num_points, n)``."""
        lattice = simplex_lattice(self.num_objectives, num_points).double()
        return self.optimum(lattice / lattice.sum(dim=1, keepdim=True))


def _checked_matrices(matrices: Tensor, m: int, n: int) -> Tensor:
    if matrices.shape != (m, n, n):
        raise ValueError(
            f"matrices have shape {tuple(matrices.shape)}, but {m} centers of {n} variables need {(m, n, n)}: one "
            "square matrix for each objective."
        )
    for index, matrix in enumerate(matrices):
        symmetric = matrix.isfinite().all() and torch.allclose(matrix, matrix.T)
        smallest = torch.linalg.eigvalsh(matrix).min().item() if symmetric else float("nan")
        if not smallest > 0:
            problem = f"has the eigenvalue {smallest:g}" if symmetric else "is not symmetric and finite"
            raise ValueError(
                f"matrix {index} {problem}: every matrix must be symmetric positive definite, so that the optimum of "
                "each preference is unique."
            )
    return matrices
