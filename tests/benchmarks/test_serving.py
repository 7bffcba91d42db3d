"""The benchmark of the server: every figure is there, every stream its own, nobody lost."""

import json

import pytest

for package in ("fastapi", "httpx", "uvicorn"):
    pytest.importorskip(package)

from benchmarks.serving import main, streamed_text  # noqa: E402


def test_a_stream_is_read():
    lines = [json.dumps({"choices": [{"delta": {"content": text}}]}) for text in ("a", "", " b")]
    assert streamed_text("".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])) == ("a b", 2)


@pytest.mark.slow
def test_all_of_it_on_a_small_scale(tmp_path):
    sizes = ["--blocks", "1", "--batch-sizes", "2", "--new-tokens", "4", "--repeats", "1"]
    main([*sizes, "--streams", "6", "--crowd", "150", "--output", str(tmp_path / "out.json")])
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["speed"][0]["worker_processor_ratio"] > 0
    assert figures["streams"]["others"] == 0
    crowd = figures["crowd"]
    assert crowd["answered"] + crowd["busy"] == crowd["asked"] == 150
    assert crowd["answered_later"] == 16
