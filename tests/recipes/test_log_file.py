import json
from types import SimpleNamespace

from mopref.recipes.log_file import LogFile


def test_the_log_grows_by_a_line_an_entry(tmp_path):
    log, trainer = LogFile(tmp_path / "log.jsonl"), SimpleNamespace(history=[])
    log.on_train_begin(trainer)
    for step in (1, 2):
        log.on_log(trainer, {"step": step, "loss": 0.5})
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, step + 1))


def test_a_resumed_run_keeps_what_was_logged_up_to_its_checkpoint(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    LogFile(tmp_path / "log.jsonl").on_train_begin(SimpleNamespace(history=[{"step": 1}, {"step": 2}]))
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
