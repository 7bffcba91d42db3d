"""A clock that is put forward by hand."""


class Clock:
    """Stands for ``time.time``: the seconds stay as they are until a test changes them."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds
