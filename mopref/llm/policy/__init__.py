"""The one door to a language model: log-probabilities, the reference, frozen layers and generation."""
