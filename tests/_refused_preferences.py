"""What is no preference of one request with the objectives helpful and harmless, and what its refusal says."""

REFUSED_PREFERENCES = [
    ([0.5, 0.6], "sum"),
    ([-0.5, 1.5], "negative"),
    ([0.5, float("nan")], "nan"),
    ({"helpful": 1.0, "brief": 0.0}, "brief"),
    ([0.2, 0.3, 0.5], "2 objectives"),
    ([[0.5, 0.5], [1, 0]], "one request is made: give a single one"),
]
