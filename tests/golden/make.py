"""Write the golden files of this version: what it saves, tiny, and what a later version must find in it.

    python tests/golden/make.py 0.2

A version's files are written once, before it is released, and stay as they are for good. An absolute path writes them
elsewhere.
"""

import json
import sys
from pathlib import Path

from golden_parts import CONDITIONINGS, SAVED, STEPS, TRAINERS, adapted, filled, front, outputs, progress

HERE = Path(__file__).parent


def make(folder: Path) -> None:
    """Write every file, and the values in them into ``expected.json``."""
    expected: dict[str, object] = {}
    model = adapted()
    model.save_pretrained(folder / "adapter")
    expected["adapter"] = outputs(model)
    for index, (name, (build, _)) in enumerate(CONDITIONINGS.items()):
        conditioned = filled(build(), 10 + index, only_trained=True)
        conditioned.save_pretrained(folder / name)
        expected[name] = outputs(conditioned)
    for name, build_trainer in TRAINERS.items():
        # The schedule is over all steps: the run is cut where it is saved.
        trainer = build_trainer(None)
        trainer.callbacks = (_Save(folder / f"checkpoint_{name}"),)
        trainer.train()
        expected[f"checkpoint_{name}"] = {"saved": trainer.callbacks[0].progress, "end": progress(trainer)}
    front().save(folder / "front.json")
    front().save(folder / "front.csv")
    text = json.dumps({"saved": SAVED, "steps": STEPS, **expected}, indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


class _Save:
    """Saves the trainer at one step, and keeps what it had come to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, hook: str):
        return lambda *arguments: None

    def on_step_end(self, trainer) -> None:
        if trainer.step == SAVED:
            trainer.save_checkpoint(self.folder)
            self.progress = json.loads(json.dumps(progress(trainer)))

    def shown(self) -> str:
        return ""


if __name__ == "__main__":
    place = HERE / sys.argv[1]
    if place.exists():
        sys.exit(f"{place} is there already: golden files of a version are written once.")
    make(place)
    print(f"{sum(path.stat().st_size for path in place.rglob('*') if path.is_file())} bytes in {place}")
