"""The samplers under test."""

from mopref.samplers import (
    ConeSampler,
    CurriculumSampler,
    DirichletSampler,
    LatticeSampler,
    LowDiscrepancySampler,
    StratifiedSampler,
    UniformSampler,
    VertexBiasedSampler,
)

# Each λ by itself is uniform on the simplex; the last three are spread more evenly than random ones.
UNIFORM = {
    "uniform": lambda m, seed=0: UniformSampler(m, seed=seed),
    "sobol": lambda m, seed=0: LowDiscrepancySampler(m, seed=seed),
    "halton": lambda m, seed=0: LowDiscrepancySampler(m, "halton", seed=seed),
    "stratified": lambda m, seed=0: StratifiedSampler(m, seed=seed),
}
MAKERS = UNIFORM | {
    "dirichlet": lambda m, seed=0: DirichletSampler(m, 0.5, seed=seed),
    "vertex-biased": lambda m, seed=0: VertexBiasedSampler(m, seed=seed),
    "curriculum": lambda m, seed=0: CurriculumSampler(m, num_preferences=20, start=0.5, seed=seed),
    "cone": lambda m, seed=0: ConeSampler(m, seed=seed),
    "lattice": lambda m, seed=0: LatticeSampler(m, 30, seed=seed),
}
