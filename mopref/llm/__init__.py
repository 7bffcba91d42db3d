"""Language models: preference data, policies, policy gradients, rewards, and what the examples fetch."""
