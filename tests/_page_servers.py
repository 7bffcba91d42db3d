"""Servers of tiny random models with a page: hostile words, a front, pairs; and a real connection to them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from _turn_tokenizer import turn_tokenizer

# What a browser or a template would obey, if it were shown as it is.
HOSTILE = ("<img/src=x/onerror=window.hit=1>", "${window.hit=1}", "{{value}}", "<script>window.hit=1</script>", "`")
NAMES = {2: ("helpful", "harmless"), 3: ("helpful", "harmless", "brief"), 4: ("a<b>", "b`${1}", "c", "d")}


def page_tokenizer():
    """Ninety-six words, every sixth one hostile, and a chat template that ends turns with </s>."""
    words = [f"w{i}" if i % 6 else f"{HOSTILE[i // 6 % len(HOSTILE)]}{i or ''}" for i in range(96)]
    return turn_tokenizer(words)


def page_records(objectives, count: int = 12):
    """Pairs whose texts are hostile, too."""
    return [
        {
            "prompt": f"w{n + 1} {HOSTILE[n % len(HOSTILE)]}",
            "response_0": f"w{n + 2} w{2 * n + 5} {HOSTILE[0]}",
            "response_1": f"w{3 * n + 1} w7",
            **dict.fromkeys(objectives, -1),
        }
        for n in range(count)
    ]


def page_front(objectives):
    """A front with intervals, and one dominated point."""
    from mopref.front import Front
    from mopref.preferences import simplex_lattice

    points = simplex_lattice(len(objectives), 6 if len(objectives) == 2 else 15).double().numpy()
    values = 0.9 - 0.6 * np.sqrt(points)
    values[1] += 0.15
    extra = {}
    for place, name in enumerate(objectives):
        extra[f"{name}_low"], extra[f"{name}_high"] = values[:, place] - 0.03, values[:, place] + 0.04
    return Front(points, values, objectives, extra=extra, metadata={"interval_level": 0.95})


def page_server(make_llama, randomise, m: int = 2, matter=None, steady: bool = False, **settings):
    """A server with a page, of m objectives; its front and its pairs, unless ``matter`` says otherwise.

    ``steady`` answers are as long as they may be, since nothing ends them.
    """
    from mopref import PreferenceModel, SVDLoRAConfig
    from mopref.serving.launch import ServerSettings, serve_model
    from mopref.serving.opening import Opened
    from mopref.serving.page.matter import PageMatter
    from mopref.serving.page.pairs import known_pairs

    tokenizer = page_tokenizer()
    config = SVDLoRAConfig(objectives=NAMES[m], rank=4, preference_rank=2)
    base = make_llama(max_position_embeddings=1024)
    if steady:
        with torch.no_grad():
            # Of these two the stop token is never the likelier one where either is likely.
            base.lm_head.weight[2] = 0.9 * base.lm_head.weight[5]
    model = randomise(PreferenceModel(base, config)).eval()
    if matter is None:
        pairs = known_pairs(model, tokenizer, page_records(NAMES[m]), 0.1)
        matter = PageMatter(page_front(NAMES[m]), pairs)
    settings = {"page": True, "name": "tiny", "new_tokens": 200, **settings}
    return serve_model(Opened(model, tokenizer), ServerSettings(**settings), matter=matter)


@contextmanager
def connected(server) -> Iterator[str]:
    """Serve over a real connection; the address."""
    from mopref.serving.listening import bound_socket, http_server

    with bound_socket("127.0.0.1", 0) as bound:
        http = http_server(server.app)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not http.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            http.should_exit = True
            thread.join(30)
            server.worker.close()
