"""VLLM: rollouts sampled by a running, stock vLLM server, which loads each step's preferences as plain LoRAs."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mopref._repr import short_repr
from mopref._tables import rows_at
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.engines.engine import ENGINES, EngineSamples, RolloutEngine, mean_difference
from mopref.llm.engines.json_client import JsonClient, StatusError
from mopref.llm.engines.lora_shelf import checked_shelf, lora_shelf, put_lora
from mopref.llm.engines.vllm_requests import completed, sampling_fields
from mopref.llm.policy.generation import Sampling, stop_tokens_of
from mopref.llm.policy.policy import Policy
from mopref.setting_types import checked_count

__all__ = ["VLLM"]

# What the server and every client of it read.
_KEY = "VLLM_API_KEY"
_HOW = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
# Prompts and tokens that are sampled when a trainer is made.
_TRIED_PROMPTS, _TRIED_TOKENS = 4, 16
# Differences below are rounding.
_ROUNDING = 1e-4


@ENGINES.register("vllm")
class VLLM(RolloutEngine):
    """A vLLM server as it comes, with runtime LoRAs; the trainer writes G adapters a step, which it loads by HTTP.

        VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve BASE --enable-lora --max-lora-rank 16 --max-loras 8
            --max-cpu-loras 16 --logprobs-mode processed_logprobs

    Each step's preferences become plain LoRAs under names that were never used before, all prompts are sent at once as
    token ids, and afterwards the LoRAs are unloaded and their folders removed. The samples are not the same bit for bit
    in two runs: what else is in a batch changes its rounding.

    Args:
        url: the server's address, http or https. What is sent is the prompts' tokens and the LoRAs' paths. Where the
            server asks for a key, set the variable VLLM_API_KEY for the trainer, too.
        folder: where LoRAs are put, a folder that the server can read under the same path; by default one in the cache
            of mopref, which does where both run on one machine as one user.
        connections: requests at once; the others wait.
        timeout: the seconds that the server may keep silent.
        importance_limit: C of the weights min(π/π_engine, C).
        tolerance: the most nats by which the two may differ, in the mean of a token.

    Raises:
        ValueError: a value out of its range, or no address.
        TypeError: a value of another type, named.

    Example:
        >>> VLLM("http://127.0.0.1:8000")
        VLLM('http://127.0.0.1:8000', importance_limit=2.0, tolerance=0.2)
    """

    def __init__(
        self,
        url: str,
        folder: str | Path | None = None,
        connections: int = 64,
        timeout: float = 600.0,
        importance_limit: float = 2.0,
        tolerance: float = 0.2,
    ) -> None:
        super().__init__(importance_limit, tolerance)
        self.connections = checked_count(connections, "connections")
        self._client, self._shelf = JsonClient(url, timeout, _KEY), checked_shelf(folder)

    # Not what an option says of a run: at which address a run's server is may change when it goes on.
    def __repr__(self) -> str:
        limits = f"importance_limit={self.importance_limit}, tolerance={self.tolerance}"
        return f"{type(self).__name__}({self._client.url!r}, {limits})"

    def check(self, policy: Policy, data: Sequence[Any]) -> None:
        """Sample a few prompts at even weights, and compare their log-probabilities with the trainer's.

        Raises:
            ValueError: a server without runtime LoRAs, whose --max-lora-rank or --max-model-len is too small, that
                cannot read the folder, serves another model or vocabulary, or gives log-probabilities of another
                distribution than it samples from.
            ConnectionError: no server there.
        """
        _check_earliest_stop(policy)
        lengths = [tokens for (tokens,) in policy.token_counts(data, ("prompt_ids",), "prompt")]
        self._check_length(max(lengths) + policy.sampling.max_new_tokens)
        places = torch.linspace(0, len(lengths) - 1, min(_TRIED_PROMPTS, len(lengths))).round().long().tolist()
        prompts = [[int(token) for token in row["prompt_ids"]] for row in rows_at(data, places)]
        m = len(policy.conditioned.objectives)
        preferences = torch.full((len(prompts), m), 1 / m, dtype=torch.float64)
        tokens = min(_TRIED_TOKENS, policy.sampling.max_new_tokens)
        earliest = min(policy.sampling.min_new_tokens, tokens)
        sampling = replace(policy.sampling, max_new_tokens=tokens, min_new_tokens=earliest)
        tried = Policy(policy.conditioned, sampling)
        samples = self._sample(tried, prompts, preferences, 1, list(range(len(prompts))))
        self._compare(tried, prompts, preferences, samples)

    def sample(
        self, policy: Policy, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, samples_per_prompt: int
    ) -> EngineSamples:
        """S responses to each prompt, by one request each; the prompts of equal preferences share a LoRA.

        Raises:
            ValueError: a server that refuses, or an answer that cannot be this policy's.
            ConnectionError: a server that does not answer.
        """
        seeds = torch.randint(2**62, (len(prompt_ids),)).tolist()
        return self._sample(policy, prompt_ids, preferences, samples_per_prompt, seeds)

    def _sample(
        self,
        policy: Policy,
        prompt_ids: Sequence[Sequence[int]],
        preferences: Tensor,
        samples: int,
        seeds: Sequence[int],
    ) -> EngineSamples:
        fields = {**sampling_fields(policy), "n": samples}
        with self._loaded(policy, preferences) as names:
            forms = [
                {**fields, "model": name, "prompt": ids, "seed": seed}
                for name, ids, seed in zip(names, prompt_ids, seeds, strict=True)
            ]
            pool = ThreadPoolExecutor(min(self.connections, len(forms)))
            try:
                answers = list(pool.map(self._completion, forms))
            finally:
                # One that failed is enough.
                pool.shutdown(cancel_futures=True)
        return completed(answers, policy, samples, self._client.url)

    def _completion(self, form: Mapping[str, Any]) -> Any:
        try:
            return self._client.ask("/v1/completions", form)
        except StatusError as error:
            raise ValueError(
                f"{self._client.url} refuses to sample ({error}): it serves another model than the one that is "
                "trained, or its settings forbid what is asked."
            ) from None

    @contextmanager
    def _loaded(self, policy: Policy, preferences: Tensor) -> Iterator[list[str]]:
        """Within this block the server has a LoRA for each row's preference; their names, row by row."""
        rows = [tuple(row) for row in preferences.double().cpu().tolist()]
        names: dict[tuple[float, ...], str] = {}
        with lora_shelf(self._shelf) as folder:
            try:
                for row in dict.fromkeys(rows):
                    place = folder / str(len(names))
                    put_lora(place, policy.conditioned, row)
                    # Never a name that was used before, of which a cache may still have another content.
                    names[row] = f"{folder.name}-{place.name}"
                    self._load(names[row], place)
                yield [names[row] for row in rows]
            finally:
                for name in names.values():
                    with suppress(StatusError, ConnectionError):
                        self._client.ask("/v1/unload_lora_adapter", {"lora_name": name})

    def _load(self, name: str, folder: Path) -> None:
        try:
            self._client.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except StatusError as error:
            if error.status == 404 and error.reason == "Not Found":
                raise ValueError(
                    f"{self._client.url} loads no LoRAs while it runs ({error}): start it with {_HOW}."
                ) from None
            raise ValueError(
                f"{self._client.url} cannot load the LoRA in {folder} ({error}): it has to serve the base model that "
                "is trained, with a --max-lora-rank of k + p·m at least, and to be able to read that folder (give "
                "another one by folder)."
            ) from None

    def _check_length(self, tokens: int) -> None:
        """Refuse a server that has not so many tokens for a prompt and its response."""
        try:
            listed = self._client.ask("/v1/models")
        except StatusError as error:
            key = f" It asks for a key: set {_KEY}." if error.status in (401, 403) else ""
            raise ValueError(f"{self._client.url} does not list its models ({error}): is it vLLM?{key}") from None
        entries = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{self._client.url} does not list its models ({short_repr(listed)}): is it vLLM?")
        lengths = [entry.get("max_model_len") for entry in entries]
        most = min((length for length in lengths if type(length) is int), default=None)
        if most is not None and tokens > most:
            raise ValueError(
                f"the longest prompt has {tokens} tokens with its response, and {self._client.url} takes {most}: start "
                f"it with --max-model-len {tokens}, or lower max_new_tokens."
            )

    def _compare(
        self, policy: Policy, prompts: Sequence[Sequence[int]], preferences: Tensor, samples: EngineSamples
    ) -> None:
        sequences = collate_sequences(prompts, [response.ids for response in samples.responses]).to(policy.device)
        mask = sequences.response_mask

        def difference(sampling: Sampling) -> float:
            with torch.no_grad(), policy.without_dropout():
                own = Policy(policy.conditioned, sampling).token_log_probabilities(sequences, preferences)
            return mean_difference(own, samples.log_probabilities, mask)

        gap = difference(policy.sampling)
        if gap > _ROUNDING and difference(Sampling(stop_token_ids=())) < gap / 2:
            raise ValueError(
                f"{self._client.url} gives the log-probabilities before temperature, stop tokens and vocabulary, and "
                "not those of what it samples from: start it with --logprobs-mode processed_logprobs."
            )
        self.refuse_difference(gap, policy.sampling)


def _check_earliest_stop(policy: Policy) -> None:
    """Refuse ``min_new_tokens`` where the model's own end is none of the stop tokens."""
    stops = set(policy.sampling.stop_token_ids or ())
    own = [end for end in stop_tokens_of(policy.conditioned.base_model) if end not in stops]
    if policy.sampling.min_new_tokens and own:
        raise ValueError(
            f"min_new_tokens is {policy.sampling.min_new_tokens}, and vLLM keeps the model's own end {own[0]}, which "
            "is none of stop_token_ids, away from the first tokens, too: add it there, or leave min_new_tokens out."
        )
