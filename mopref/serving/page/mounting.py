"""The page on a server's application, behind its gate."""

import os
from importlib.resources import files
from typing import Any

from mopref.serving.page.conversation import Asker
from mopref.serving.page.gate import PageGate
from mopref.serving.page.matter import PageMatter
from mopref.serving.reception import Reception
from mopref.serving.worker import Worker

__all__ = ["mount_page"]


def mount_page(app: Any, worker: Worker, reception: Reception, seconds: float, matter: PageMatter) -> PageGate:
    """The application with a page at ``/``, behind its gate; the API stays where it is.

    Args:
        app: of FastAPI.
        worker: answers.
        reception: says what may be asked.
        seconds: the most that an answer takes, waiting included.
        matter: what the page shows beside the model.
    """
    # Nothing is told to anybody, also by parts of Gradio that do not look at the page's own setting.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from mopref.serving.page.blocks import make_blocks

    blocks = make_blocks(Asker(worker, reception, seconds, app.state.readers), reception.terms, matter)
    # Gradio's own fonts would be fetched from elsewhere.
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        # White on the hue's own middle would be hard to read.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        block_info_text_color="*neutral_600",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
    )
    css = files("mopref.serving.page").joinpath("page.css").read_text(encoding="utf-8")
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=1,
        theme=theme,
        css=css,
    )
    return PageGate(app)
