"""The language-model instantiation: records, tokenisation, log-probabilities, evaluation and generation."""
