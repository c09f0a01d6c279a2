"""The page in a real browser: pictures, texts, errors, a phone, the keyboard, and no other host."""

import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
from page_reading import CONTRASTS, UNNAMED
from page_server import MARKUP, serving
from PIL import Image
from playwright.sync_api import Browser, Page, Request, Route, expect
from served_fakes import picture

expect.set_options(timeout=15_000)

# What people with poor sight need between text and what is behind it: WCAG 2.2, 1.4.3.
LEAST_CONTRAST = 4.5


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as where:
        yield where


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Open the page; in the end nothing may have gone wrong, or been asked of another host."""
    contexts, hosts, wrong = [], set(), []

    def open_page(path: str = "", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(outside(request)))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address + path)
        page.locator(".operation, #work").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong
    assert hosts <= {address}


def outside(request: Request) -> str:
    return re.match(r"blob:|[a-z]+://[^/]*/", request.url)[0]  # type: ignore[index]


def upload(page: Page, data: bytes, name: str = "photo.png") -> None:
    page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def half() -> bytes:
    """Return a picture, broad and low, whose left half is black and whose right half is white."""
    image = Image.new("RGB", (120, 60), "black")
    image.paste("white", (60, 0, 120, 60))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def choose(page: Page, model: str) -> None:
    page.locator("#model").select_option(model)


def brightness(page: Page) -> list[int]:
    """Return how opaque the heat map is at the left and at the right."""
    found: list[int] = (
        page.locator(".stack canvas")
        .nth(1)
        .evaluate(
            """canvas => [0.35, 0.65].map(x => canvas.getContext("2d").getImageData(
             Math.round(x * canvas.width), Math.round(0.5 * canvas.height), 1, 1).data[3])"""
        )
    )
    return found


def test_an_uploaded_picture_is_named_with_bars_and_told_to_screen_readers(
    visit: Callable[..., Page],
) -> None:
    page = visit()
    expect(page.locator("#about")).to_have_text(
        "Tells 7 classes apart. Accuracy on its test samples: 91.3% (95% interval 88.0% to 94.0%)."
    )
    upload(page, picture((255, 255, 255)))
    expect(page.locator(".verdict")).to_contain_text("white")
    bars = page.locator(".class")
    expect(bars).to_have_count(5)
    shares = [float(text.strip("%<> ")) for text in page.locator(".class .value").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    widths = [bar.bounding_box()["width"] for bar in page.locator(".class .bar").all()]  # type: ignore[index]
    page.wait_for_timeout(300)  # they grow
    widths = [bar.bounding_box()["width"] for bar in page.locator(".class .bar").all()]  # type: ignore[index]
    whole = bars.first.bounding_box()["width"]  # type: ignore[index]
    assert widths[0] / whole == pytest.approx(shares[0] / 100, abs=0.02)
    status = page.locator("[role=status]#status")
    expect(status).to_have_text(re.compile(r"white, \d\d\.\d% for photo\.png\."))
    expect(page.locator("#preview")).to_be_visible()
    page.get_by_role("button", name="Show all 7 classes").click()
    expect(bars).to_have_count(7)
    # A class named like a tag is shown as it is named.
    expect(page.locator(".class", has_text=MARKUP)).to_have_count(1)
    assert page.locator("img").count() == 0


def test_the_heat_map_lies_on_the_part_that_speaks_for_a_class(visit: Callable[..., Page]) -> None:
    page = visit()
    upload(page, half())
    page.get_by_role("button", name="Show all 7 classes").click()
    page.locator(".class", has_text="white").click()
    expect(page.locator(".why h3")).to_have_text("Why white")
    left, right = brightness(page)
    assert right > left + 50
    page.locator(".class", has_text="black").click()
    expect(page.locator(".why h3")).to_have_text("Why black")
    left, right = brightness(page)
    assert left > right + 50
    heat = page.get_by_role("img", name="Heat map of what speaks for black")
    expect(heat).to_have_attribute("aria-label", re.compile("strongest at the .*left"))
    expect(page.locator(".class[aria-pressed=true]")).to_contain_text("black")
    # It can be weaker, and off.
    slider = page.get_by_label("Strength")
    slider.fill("20")
    expect(heat).to_have_css("opacity", "0.2")
    page.get_by_label("Heat map", exact=True).uncheck()
    expect(heat).to_have_css("opacity", "0")
    slider.fill("90")
    expect(heat).to_have_css("opacity", "0.9")
    # The centre square of a broad picture is all that the network saw.
    expect(page.locator("figcaption")).to_contain_text("Outside the dashed line")


def test_two_models_answer_one_upload_side_by_side(visit: Callable[..., Page]) -> None:
    page = visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "predict" in request.url else 0)
    page.locator("#compare").select_option("colours")
    upload(page, picture((0, 0, 255)))
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".card").nth(1).locator(".verdict")).to_contain_text("blue")
    assert len(asked) == 1
    boxes = [card.bounding_box() for card in page.locator(".verdict").all()]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=1)  # type: ignore[index]
    # Another model is asked of the same picture as soon as it is chosen.
    page.locator("#compare").select_option("")
    choose(page, "colours")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".verdict")).to_contain_text("blue")


def test_words_are_marked_by_colour_and_by_sign(visit: Callable[..., Page]) -> None:
    page = visit()
    choose(page, "films")
    page.get_by_label("Text", exact=True).fill(
        "A 😀 dull, tedious film, but <b>wonderful</b> wonderful music"
    )
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".verdict")).to_contain_text("unkind")
    page.get_by_role("button", name="Why unkind?").click()
    words = page.locator(".words")
    expect(words).to_have_text("A 😀 dull,+ tedious+ film, but <b>wonderful</b> wonderful− music")
    assert page.locator(".words .for").all_inner_texts() == ["dull,+", "tedious+"]
    assert page.locator(".words .against").all_inner_texts() == ["wonderful−"]
    page.get_by_text("The strongest words in numbers").click()
    rows = page.locator(".why tbody tr").all_inner_texts()
    assert [row.split() for row in rows[:2]] == [["tedious", "+1"], ["wonderful", "−0.8"]]
    page.locator(".class", has_text="kind").last.click()
    expect(page.locator(".why h3")).to_have_text("Why kind")
    assert page.locator(".words .for").all_inner_texts() == ["wonderful+"]


def test_pairs_and_numbers_have_forms_of_their_own(visit: Callable[..., Page]) -> None:
    page = visit()
    choose(page, "pairs")
    page.get_by_label("First text").fill("aeiou")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("Write both texts first.")
    page.get_by_label("Second text").fill("aaa")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".verdict")).to_contain_text("vowels")
    expect(page.get_by_role("alert")).to_be_empty()
    choose(page, "sums")
    numbers = page.get_by_label("Numbers")
    numbers.fill("1 two")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("Expected numbers only")
    numbers.fill("1 2 3")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("Expected 2 numbers on each line.")
    numbers.fill("1 2\n3, 4.5")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".verdict")).to_have_text("10.5")
    expect(page.locator(".ask-why")).to_have_count(0)  # of numbers there is no explanation


def test_what_goes_wrong_is_said_in_words(visit: Callable[..., Page]) -> None:
    page = visit()
    alert = page.get_by_role("alert")
    upload(page, half()[:60])
    expect(alert).to_contain_text("Error: The input could not be read: damaged or cut off")
    upload(page, half())
    expect(page.locator(".verdict")).to_be_visible()
    expect(alert).to_be_empty()

    def busy(route: Route) -> None:
        body = json.dumps({"error": {"code": "busy", "message": "the queue is full"}})
        route.fulfill(status=503, headers={"Retry-After": "7"}, body=body)

    page.route("**/predict*", busy)
    upload(page, half())
    expect(alert).to_contain_text("The server is busy. Try again in 7 s.")
    expect(page.locator(".card")).to_have_count(0)  # no old answer beside a new picture
    page.unroute("**/predict*")
    page.route("**/predict*", lambda route: route.abort())
    upload(page, half())
    expect(alert).to_contain_text("The server did not answer.")


def test_a_late_answer_never_stands_beside_a_newer_picture(visit: Callable[..., Page]) -> None:
    page = visit()
    held: list[Route] = []
    page.route("**/predict*", lambda route: route.continue_() if held else held.append(route))
    upload(page, picture((255, 255, 255)), "first.png")
    expect(page.locator("#cards")).to_have_attribute("aria-busy", "true")
    upload(page, picture((0, 0, 0)), "second.png")
    expect(page.locator(".verdict")).to_contain_text("black")
    held[0].fulfill(json={"results": [{"model": "shades", "predictions": [{"error": "late"}]}]})
    page.wait_for_timeout(200)
    expect(page.locator(".verdict")).to_contain_text("black")
    expect(page.locator("#status")).to_contain_text("second.png")


def test_a_picture_may_be_dropped_or_pasted(visit: Callable[..., Page]) -> None:
    page = visit()
    send = """([kind, bytes]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
      const [Kind, name] = kind === "drop"
        ? [DragEvent, "dataTransfer"] : [ClipboardEvent, "clipboardData"];
      document.body.dispatchEvent(new Kind(kind, { [name]: transfer, bubbles: true }));
    }"""
    page.evaluate(send, ["drop", list(picture((255, 255, 255)))])
    expect(page.locator(".verdict")).to_contain_text("white")
    page.evaluate(send, ["paste", list(picture((0, 0, 0)))])
    expect(page.locator(".verdict")).to_contain_text("black")
    choose(page, "films")
    page.evaluate(send, ["drop", list(picture((0, 0, 0)))])
    expect(page.get_by_role("alert")).to_contain_text("does not take pictures")


def test_a_server_with_a_key_asks_for_it(browser: Browser) -> None:
    with serving("opensesame") as where:
        page = browser.new_page()
        page.goto(where)
        key = page.get_by_label("This server wants an API key")
        expect(key).to_be_focused()
        expect(page.locator("#work")).to_be_hidden()
        key.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The API key is missing or wrong.")
        key.fill("opensesame")
        page.keyboard.press("Enter")
        expect(page.locator("#work")).to_be_visible()
        expect(key).to_be_hidden()
        upload(page, half())
        expect(page.locator(".verdict")).to_be_visible()
        page.reload()
        expect(page.locator("#work")).to_be_visible()
        page.close()


def test_all_of_it_works_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit()
    chosen = {"name": "p.png", "mimeType": "image/png", "buffer": half()}
    page.on("filechooser", lambda chooser: chooser.set_files(chosen))  # type: ignore[arg-type]
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.locator(":focus").evaluate("e => e.id || e.textContent.trim()"))
    skip = "Skip to the result"
    assert order == [skip, "API", "help-open", "model", "compare", "file"]
    assert page.locator("#drop").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".class").first).to_be_focused()
    page.keyboard.press("Enter")
    heat = page.locator(".stack canvas").nth(1)
    expect(heat).to_have_css("opacity", "0.75")
    page.keyboard.press("h")
    expect(heat).to_have_css("opacity", "0")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Single letters are shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    expect(heat).to_have_css("opacity", "0")
    page.get_by_role("button", name="Shortcuts").press("Enter")
    page.get_by_label("Single letters are shortcuts").check()
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("m")
    expect(page.locator("h1")).to_have_text("Reviews of films")
    page.keyboard.press("o")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.keyboard.type("who has a dull time")  # letters are letters here
    expect(page.get_by_label("Text", exact=True)).to_have_value("who has a dull time")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".verdict")).to_contain_text("unkind")
    for _ in range(2):  # the button of the form, and the first of the classes
        page.keyboard.press("Tab")
    page.keyboard.press("w")
    expect(page.locator(".words")).to_be_visible()


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Callable[..., Page]) -> None:
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.locator("#compare").select_option("colours")
    upload(page, half(), f"{'long' * 20}.png")
    expect(page.locator(".card")).to_have_count(2)
    for button in page.locator(".ask-why").all():
        button.tap()
    expect(page.locator(".stack")).to_have_count(2)
    assert width(page) == 360
    for control in page.locator("button, select, input:not(.away), .top a").all():
        if control.is_visible():
            box = control.bounding_box()
            assert box is not None
            target = control.locator(
                "xpath=ancestor-or-self::*[self::label or self::button or "
                "self::a or self::select][1]"
            ).bounding_box()
            assert target is not None
            assert target["height"] >= 24, control.evaluate("e => e.outerHTML")
    choose(page, "films")
    page.get_by_label("Text", exact=True).fill("dull" + "dull" * 60 + " tedious")
    page.get_by_role("button", name="Predict").tap()
    page.get_by_role("button", name="Why").tap()
    expect(page.locator(".words")).to_be_visible()
    assert width(page) == 360
    page.goto(page.url + "docs")
    expect(page.locator(".operation").first).to_be_visible()
    assert width(page) == 360


def width(page: Page) -> int:
    found: int = page.evaluate("() => document.documentElement.scrollWidth")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_and_everything_has_a_name(visit: Callable[..., Page], scheme: str) -> None:
    page = visit(color_scheme=scheme, reduced_motion="reduce")
    upload(page, half()[:60])
    expect(page.get_by_role("alert")).to_contain_text("Error")
    check_reading(page)
    upload(page, half())
    page.get_by_role("button", name="Why").click()
    expect(page.locator(".stack")).to_be_visible()
    check_reading(page)
    moving = page.locator(".class .bar").first.evaluate(
        "e => getComputedStyle(e).transitionDuration"
    )
    assert moving == "0s"
    choose(page, "films")
    page.get_by_label("Text", exact=True).fill("dull and tedious and wonderful " * 3)
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("button", name="Why").click()
    page.get_by_text("The strongest words in numbers").click()
    check_reading(page)
    page.get_by_role("button", name="Shortcuts").click()
    check_reading(page)
    page = visit("docs", color_scheme=scheme)
    expect(page.locator(".operation").first).to_be_visible()
    check_reading(page)


def check_reading(page: Page) -> None:
    weak = [found for found in page.evaluate(CONTRASTS) if found[0] < LEAST_CONTRAST]
    assert not weak
    assert not page.evaluate(UNNAMED)
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    names = page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(names) == len(set(names))
    assert page.title()


def test_the_api_is_described_without_another_host(
    visit: Callable[..., Page], address: str
) -> None:
    page = visit("docs")
    expect(page.locator(".operation").first).to_be_visible()
    api = page.request.get(address + "openapi.json").json()
    wanted = {f"{method.upper()} {path}" for path, item in api["paths"].items() for method in item}
    headings = page.locator(".operation h2")
    assert set(headings.all_inner_texts()) == wanted
    predicting = page.locator(".operation", has=page.get_by_text("/predict", exact=True))
    expect(predicting).to_contain_text('{"pairs": [[string, string], …]}')
    expect(predicting).to_contain_text("503")
