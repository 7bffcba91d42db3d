"""The page in a real Chromium: sliders, triangle, answers, questions, by pointer, by keyboard, and on a phone.

    make test-browser

Skipped without a Chromium on the path, or without playwright. With MOPREF_SCREENSHOTS set to a folder, what is seen is
kept there.
"""

import os
import shutil
from pathlib import Path

import pytest
from _page_servers import connected, page_server

pytestmark = pytest.mark.browser
pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
).split()
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the path")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def addresses(make_llama, randomise):
    """Where servers are that have a page, by the number of objectives and settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        made = {}

        def address(m: int, **settings):
            key = f"{m} {settings}"
            if key not in made:
                server = page_server(make_llama, randomise, m, **settings)
                made[key] = stack.enter_context(connected(server)), server
            return made[key]

        yield address


@pytest.fixture
def visit(browser, addresses):
    """Open the page; at the end nothing was written to the console as an error, or asked of another origin."""
    opened = []

    def visit(m: int, size=DESK, credentials=None, **settings):
        address, server = addresses(m, **settings)
        context = browser.new_context(viewport=size, http_credentials=credentials)
        page, problems = context.new_page(), []
        page.on("console", lambda told: problems.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("response", lambda answer: problems.append(answer.url) if answer.status >= 400 else None)

        def requested(request):
            if not request.url.startswith((address, "data:", "blob:")):
                problems.append(f"another origin: {request.url}")

        page.on("request", requested)
        page.goto(address)
        page.wait_for_selector("#prompt textarea", timeout=60_000)
        opened.append((context, page, problems))
        page.server, page.problems = server, problems
        return page

    yield visit
    for context, page, problems in opened:
        assert page.evaluate("window.hit") is None, "a text was obeyed"
        assert not problems
        context.close()


def shot(page, name: str) -> None:
    if folder := os.environ.get("MOPREF_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
        # The window was as long as the page for it, and the next click would scroll the page under its own hand.
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(300)


def chosen(page) -> str:
    return page.inner_text("#chosen strong")


def until(page, words: str, selector: str) -> None:
    page.wait_for_function(
        "([where, words]) => document.querySelector(where)?.innerText.includes(words)", arg=[selector, words]
    )


def answered(page, selector: str) -> str:
    """What is there when no answer is going on any more."""
    page.wait_for_selector(f"{selector} [aria-busy=false]", timeout=60_000)
    return page.inner_text(selector)


def number(page, name: str):
    return page.get_by_label(f"number input for {name}")


def set_number(page, name: str, value: str) -> None:
    number(page, name).fill(value)
    number(page, name).press("Enter")


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.wait_for_selector(f"[role=tab][aria-selected=true]:has-text('{name}')", timeout=5000)


def wide(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize(("m", "size"), [(2, DESK), (2, PHONE), (3, DESK), (3, PHONE)])
def test_a_visit(visit, m, size):
    """All there is, once."""
    page, name = visit(m, size), f"page_{m}_{size['width']}"
    assert wide(page) <= size["width"]
    before = page.get_attribute("#front svg", "data-row") if page.query_selector("#front svg") else None
    # A slider is moved, and the others follow.
    slider = page.get_by_label("range slider for helpful")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / m, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    until(page, "helpful .8", "#chosen")
    numbers = [float(number(page, each).input_value()) for each in ("helpful", "harmless", "brief")[:m]]
    assert sum(numbers) == pytest.approx(1, abs=0.02)
    page.fill("#prompt textarea", "w1 w2 <img src=x onerror=window.hit=1>")
    page.click("#send")
    first = answered(page, "#dialogue")
    assert "<img src=x onerror=window.hit=1>" in first
    assert "The model, at helpful .8" in first
    shot(page, f"{name}_chat")
    open_tab(page, "Side by side")
    page.get_by_label("Ask all of them").fill("w3 w4")
    page.click("#ask-all")
    assert answered(page, "#answers").count("helpful") > m
    shot(page, f"{name}_side_by_side")
    open_tab(page, "Front")
    page.wait_for_selector("#front svg")
    assert page.get_attribute("#front svg", "data-row") != before
    marked = page.get_attribute("#front svg .mark", "d")
    set_number(page, "harmless", "0.9")
    until(page, "harmless .9", "#chosen")
    page.wait_for_function("was => document.querySelector('#front svg .mark').getAttribute('d') !== was", arg=marked)
    shot(page, f"{name}_front")
    open_tab(page, "Find yours")
    page.click("#begin")
    for count in range(1, 9):
        until(page, f"{count} of 8", "#question")
        if count == 1:
            shot(page, f"{name}_question")
        page.click("#prefer-a" if count % 2 else "#prefer-b")
    until(page, "This is you", "#question")
    shot(page, f"{name}_this_is_you")
    told = page.inner_text("#question figcaption")
    page.click("#take")
    until(page, told.partition(". ")[0].partition(",")[0], "#chosen")
    assert wide(page) <= size["width"]


def test_the_triangle_is_dragged_and_moved_by_keys(visit):
    page = visit(3)
    box = page.query_selector("#triangle svg").bounding_box()
    scale = box["width"] / 460
    page.mouse.move(box["x"] + 230 * scale, box["y"] + 233 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 230 * scale, box["y"] + 60 * scale, steps=10)
    page.mouse.up()
    until(page, "helpful .93", "#chosen")
    assert float(number(page, "helpful").input_value()) == pytest.approx(0.93, abs=0.02)
    # Outside of it: the nearest edge.
    page.mouse.move(box["x"] + 230 * scale, box["y"] + 60 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 455 * scale, box["y"] + 370 * scale, steps=10)
    page.mouse.up()
    until(page, "brief 1.00", "#chosen")
    handle = page.query_selector("#triangle .handle")
    assert "brief 100 percent" in handle.get_attribute("aria-valuetext")
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    until(page, "harmless .10, brief .90", "#chosen")
    page.keyboard.press("Shift+ArrowUp")
    until(page, "helpful .10", "#chosen")
    assert page.evaluate("document.activeElement.classList.contains('handle')"), "the focus stays"
    # And it follows the sliders.
    set_number(page, "helpful", "0.5")
    page.wait_for_function(
        "document.querySelector('#triangle .handle').ariaValueText?.startsWith('helpful 50 percent')"
    )


def test_by_keyboard_alone(visit):
    page = visit(2)

    def to(selector: str, backwards: bool = False) -> None:
        for _ in range(60):
            if page.evaluate("where => document.activeElement?.matches(where)", selector):
                return
            page.keyboard.press("Shift+Tab" if backwards else "Tab")
        raise AssertionError(f"{selector} was not reached")

    to("input[type=range]")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(page, "helpful .60", "#chosen")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where one is can be seen"
    to("#prompt textarea")
    page.keyboard.type("w1 w2")
    to("#send")
    page.keyboard.press("Enter")
    assert "at helpful .60" in answered(page, "#dialogue")
    to("[role=tab]", backwards=True)
    for _ in range(3):
        if page.evaluate("document.activeElement.innerText") != "Find yours":
            page.keyboard.press("ArrowRight")
    for _ in range(6):
        if page.evaluate("document.activeElement.innerText") == "Find yours":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    to("#begin")
    page.keyboard.press("Enter")
    for count in range(1, 9):
        until(page, f"{count} of 8", "#question")
        to("#prefer-a")
        page.keyboard.press("Enter")
    until(page, "This is you", "#question")
    to("#take", backwards=True)
    page.keyboard.press("Enter")
    told = page.inner_text("#question figcaption").partition(",")[0]
    until(page, told, "#chosen")


def test_two_visitors_do_not_see_each_other(visit):
    ann, bob = visit(2), visit(2)
    set_number(ann, "helpful", "0.9")
    until(ann, "helpful .90", "#chosen")
    ann.fill("#prompt textarea", "w11 w12")
    ann.click("#send")
    bob.fill("#prompt textarea", "w13")
    bob.click("#send")
    assert "w11 w12" not in answered(bob, "#dialogue")
    assert "w13" not in answered(ann, "#dialogue").split("The model")[0]
    assert "helpful .50" in chosen(bob)


def emptied(page) -> None:
    """Nobody is answered any more."""
    for _ in range(200):
        if not page.server.worker.rows:
            return
        page.wait_for_timeout(20)
    raise AssertionError("an answer goes on that nobody reads")


def test_who_stops_or_goes_away_leaves_the_batch(visit):
    page = visit(2, steady=True, new_tokens=900)
    page.get_by_text("How answers are made").click()
    set_number(page, "most tokens", "900")
    for leave in (lambda: page.click("#stop"), lambda: page.goto("about:blank")):
        page.fill("#prompt textarea", "w1")
        page.click("#send")
        page.wait_for_selector("#dialogue [aria-busy=true] .model .said:has-text('w')")
        assert page.server.worker.rows
        leave()
        emptied(page)
        # What Gradio says of a stream that was cut off by its own page's end.
        page.problems.clear()
        if page.url != "about:blank":
            page.click("#clear")
            until(page, "Nothing has been asked", "#dialogue")


def test_problems_are_told_in_a_sentence(visit, monkeypatch):
    page = visit(2)
    page.fill("#prompt textarea", "w1 " * 1100)
    page.click("#send")
    until(page, "shorten it.", "#chat-problem")
    monkeypatch.setattr(page.server.worker.room, "places", 0)
    page.fill("#prompt textarea", "w1")
    page.click("#send")
    until(page, "The server is busy", "#chat-problem")
    assert page.input_value("#prompt textarea") == "w1"
    assert "Traceback" not in page.content()


def test_a_page_with_a_token_and_bounds(visit):
    token = "0123456789abcdef"
    page = visit(3, PHONE, {"username": "me", "password": token}, token=token, minimums={"brief": 0.25})
    set_number(page, "helpful", "5")
    until(page, "helpful .75, harmless .00, brief .25", "#chosen")
    page.get_by_text("How answers are made").click()
    assert number(page, "strength").is_disabled()
    shot(page, "page_3_bounds")
