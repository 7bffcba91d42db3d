"""Files that are right, spoilt: flipped bits, cuts, blocks of zeros, numbers and JSON nodes in place of others."""

import json
import random
from typing import Any

__all__ = ["spoil", "spoil_folder"]

_TOKENS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"true", b'""', b"[]", b"{}", b"[" * 200, b"\x00", b"\xff"),
    *(b"\xed\xa0\x80", b"\\ud800", b"../", b"/etc/passwd", b"!!python/object:os.system", b"&a [*a]", b"\xef\xbb\xbf"),
    *(b"\r\n", b"\t", b'"', b"'", b",", b":", b"-1", b"0.5", b"1e308", b"18446744073709551616", b"\x1b[2J"),
)
_NODES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**70, 1e308, float("nan"), "", "x", "\ud800", "../x", "\x1b[2J", [], {}, [[]], [None]),
    *({"a": 1}, ["a", "a"], "9" * 5000, [1, "2"], 0.5, "1", "NaN"),
)


def spoil(data: bytes, generator: random.Random) -> bytes:
    """One file's bytes with one change, seldom with several."""
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        data = generator.choice(_WAYS)(data, generator)
    return data


def spoil_folder(files: dict[str, bytes], seed: int) -> dict[str, bytes]:
    """A folder's files, one of them spoilt; or one missing, empty or in place of another."""
    generator = random.Random(seed)
    name = generator.choice(sorted(files))
    way = generator.randrange(12)
    if way == 0 and len(files) > 1:
        return {other: data for other, data in files.items() if other != name}
    if way == 1:
        return {**files, name: b""}
    if way == 2:
        return {**files, name: files[generator.choice(sorted(files))]}
    return {**files, name: spoil(files[name], generator)}


def _flip(data: bytes, generator: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _cut(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data) + 1)]


def _without(data: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(data) + 1)
    return data[:start] + data[start + generator.randrange(1, 40) :]


def _twice(data: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(data) + 1)
    part = data[start : start + generator.randrange(1, 80)]
    return data[:start] + part * generator.choice((2, 2, 50)) + data[start + len(part) :]


def _zeroed(data: bytes, generator: random.Random) -> bytes:
    start, length = generator.randrange(len(data) + 1), generator.randrange(1, 64)
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def _token(data: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(data) + 1)
    end = start + generator.choice((0, 0, 1, 5))
    return data[:start] + generator.choice(_TOKENS) + data[end:]


def _digit(data: bytes, generator: random.Random) -> bytes:
    places = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return _flip(data, generator)
    changed = bytearray(data)
    changed[generator.choice(places)] = 48 + generator.randrange(10)
    return bytes(changed)


def _node(data: bytes, generator: random.Random) -> bytes:
    """Another value at one place of a JSON document, or of one line of several."""
    lines = data.split(b"\n")
    place = generator.randrange(len(lines))
    is_whole = data.lstrip()[:1] in (b"{", b"[") and _parsed(data) is not None
    tree = _parsed(data if is_whole else lines[place])
    if tree is None:
        return _token(data, generator)
    text = json.dumps(_replaced(tree, generator)).encode()
    if is_whole:
        return text
    return b"\n".join([*lines[:place], text, *lines[place + 1 :]])


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _replaced(tree: Any, generator: random.Random) -> Any:
    if isinstance(tree, dict) and tree and generator.random() < 0.8:
        key = generator.choice(sorted(tree))
        way = generator.randrange(8)
        if way == 0:
            return {name: value for name, value in tree.items() if name != key}
        if way == 1:
            return {**tree, generator.choice(("", "x", "__class__", "../x", "\ud800")): generator.choice(_NODES)}
        return {**tree, key: _replaced(tree[key], generator)}
    if isinstance(tree, list) and tree and generator.random() < 0.8:
        place = generator.randrange(len(tree))
        return [*tree[:place], _replaced(tree[place], generator), *tree[place + 1 :]]
    return generator.choice(_NODES)


_WAYS = (_flip, _flip, _cut, _without, _twice, _zeroed, _token, _token, _digit, _node, _node, _node)
