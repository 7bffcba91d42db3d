import pytest
import torch

from mopref.baselines.per_preference import LoRAPerPreference
from mopref.baselines.plain_lora import plain_model
from mopref.conditioning import SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

ADAPTER = SVDLoRAConfig(("helpful", "harmless"), rank=2, preference_rank=1)
PREFERENCES = torch.tensor([[1.0, 0.0], [0.25, 0.75]])


@pytest.fixture(scope="module")
def model(make_model, random_loras):
    return LoRAPerPreference(plain_model(make_model, ADAPTER), PREFERENCES, random_loras).eval()


def test_each_row_is_of_the_model_for_its_preference(model, merged, random_loras, next_log_probabilities):
    prompts = [[5, 9], [7], [5, 9]]
    preferences = [[0.25, 0.75], [1.0, 0.0], [1.0, 0.0]]
    with torch.no_grad():
        own = Policy(model).token_log_probabilities(collate_sequences(prompts, [[3]] * 3), preferences)[:, 0]
    for row, (prompt, preference) in enumerate(zip(prompts, preferences, strict=True)):
        place = 0 if preference[0] == 1.0 else 1
        plain = merged(random_loras, [float(place == 0), float(place == 1)])
        assert own[row].item() == pytest.approx(next_log_probabilities(plain, prompt)[3].item(), abs=1e-4)


def test_answers_too(model, merged, random_loras, next_log_probabilities):
    sampling = Sampling(max_new_tokens=1, stop_token_ids=())
    responses = model.composed_responses([[5, 9], [5, 9]], PREFERENCES, sampling, greedy=True)
    for place, response in enumerate(responses):
        plain = merged(random_loras, [float(place == 0), float(place == 1)])
        assert response.ids == [int(next_log_probabilities(plain, [5, 9]).argmax())]


def test_there_is_no_model_for_another_preference(model):
    with pytest.raises(ValueError, match=r"no model for λ = \[0.5, 0.5\]: one is trained for each of \(1, 0; 0.25"):
        Policy(model).token_log_probabilities(collate_sequences([[5]], [[3]]), [0.5, 0.5])


def test_one_for_each(make_model, random_loras):
    with pytest.raises(ValueError, match="2 LoRAs for 1 preferences"):
        LoRAPerPreference(plain_model(make_model, ADAPTER), PREFERENCES[:1], random_loras)
