"""What every engine has: its limits, and how its samples become the trainer's."""

import math

import pytest
import torch
from _counted_rewards import PREFERENCES, ROWS

from mopref.llm.engines import ENGINES, VLLM, EngineSamples, RolloutEngine
from mopref.llm.engines.engine import mean_difference, sampled_by
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy.samples import sample_with_outputs

PROMPTS = [row["prompt_ids"] for row in ROWS]
ROW_PREFERENCES = PREFERENCES.repeat_interleave(2, dim=0)


class Echo(RolloutEngine):
    """The model's own samples, whose log-probabilities are ``shift`` larger."""

    shift = 0.0

    def check(self, policy, data):
        pass

    def sample(self, policy, prompt_ids, preferences, samples_per_prompt):
        drawn = sample_with_outputs(policy.conditioned, prompt_ids, preferences, policy.sampling, samples_per_prompt)
        return EngineSamples(drawn.responses, drawn.outputs.log_probabilities + self.shift)


def test_a_mean_over_tokens_that_are_there():
    own, engine = (
        torch.tensor([[-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0]]),
        torch.tensor([[-1.5, -1.0, 9.0], [-3.0, 9.0, 9.0]]),
    )
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_difference(own, engine, mask) == pytest.approx((0.5 + 1.0 + 0.0) / 3)


@pytest.mark.parametrize(("shift", "tolerance", "top_p"), [(0.15, 0.2, 1.0), (0.6, 0.2, 0.5), (3.0, 4.0, 1.0)])
def test_samples_within_the_tolerance_are_the_trainers(model, shift, tolerance, top_p):
    engine, policy = Echo(tolerance=tolerance), Policy(model, Sampling(3, top_p=top_p, stop_token_ids=()))
    engine.shift = shift
    responses, outputs, told = sampled_by(engine, policy, PROMPTS, ROW_PREFERENCES, 2, True)
    assert len(responses) == 8
    torch.testing.assert_close(told, outputs.log_probabilities + shift, atol=1e-4, rtol=0)
    assert outputs.head_inputs.shape == (8, 3, 64)
    assert not outputs.log_probabilities.requires_grad


@pytest.mark.parametrize("shift", [0.3, -0.3, math.nan])
def test_samples_beyond_it_are_refused(model, shift):
    engine = Echo()
    engine.shift = shift
    with pytest.raises(ValueError, match="serves another base model"):
        sampled_by(engine, Policy(model, Sampling(3, stop_token_ids=())), PROMPTS, ROW_PREFERENCES, 2, False)


def test_without_an_engine_or_a_preference_the_model_samples_itself(model):
    policy = Policy(model, Sampling(3, stop_token_ids=()))
    assert sampled_by(None, policy, PROMPTS, ROW_PREFERENCES, 2, False)[2] is None
    with policy.reference() as reference:
        assert sampled_by(Echo(), reference, PROMPTS, None, 2, False)[2] is None


def test_the_registry_knows_it():
    assert ENGINES["vllm"] is VLLM
