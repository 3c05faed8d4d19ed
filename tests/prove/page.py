#!/usr/bin/env python3
"""page.py CHROMIUM PART URL [ARGUMENT]: what page.sh has a browser do with the page at URL.

    talk URL        answers that stream, stop, come again; what is kept, exported and removed
    keys URL        all of it by keyboard, with a visible focus
    text URL        what is written stays text; streams cut anywhere; sources
    look URL        light and dark, small and large; SCREENSHOTS=FOLDER takes pictures
    gone URL AGENT  the agent, a pid, is killed during an answer, and another one follows
    key URL KEY     a server that wants a key

Each line "ok: ..." or "FAILED: ..." is one check; the last line is their sum. The page forbids to make scripts of text, so waiting
is by expect() and from here, never by a function that runs in the page."""
import contextlib
import json
import os
import re
import signal
import sys
import time
import traceback
import urllib.request

from playwright.sync_api import expect, sync_playwright

WAIT_MS = 60000
LONG = "Here is a long list of English words, one after another: house, tree,"  # as a text to go on with, it has no natural end
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script><a href="javascript:0">x</a>'
counts = {True: 0, False: 0}


def check(what, ok, detail=None):
    counts[bool(ok)] += 1
    print(f"ok: {what}" if ok else f"FAILED: {what}: {detail!r}", flush=True)


def until(condition, seconds=WAIT_MS / 1000):
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


class Visit:
    """A browser of its own on the page, and all that its console said and that it asked for."""

    def __init__(self, browser, url, ready=True, **options):
        self.context = browser.new_context(**options)
        self.page, self.url, self.said, self.asked = self.context.new_page(), url, [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url + "/")
        if ready:
            self.ready()

    def ready(self):
        expect(self("#status")).to_have_attribute("data-state", "ready", timeout=WAIT_MS)

    def __call__(self, selector):
        return self.page.locator(selector)

    def set(self, **settings):
        """In the panel, as it is when it opens."""
        self("#open").click()
        for name, value in settings.items():
            field = self(f"#{name}")
            field.select_option(value) if name == "mode" else field.fill(value)
        self("#close").click()

    def ask(self, text):
        self("#text").fill(text)
        self("#text").press("Enter")

    def answered(self):
        expect(self(".assistant").last).to_have_attribute("aria-busy", "false", timeout=WAIT_MS)
        return self.turns()[-1]

    def streaming(self, characters=20):
        expect(self(".assistant .body").last).to_have_text(re.compile(".{%d}" % characters, re.S), timeout=WAIT_MS)

    def turns(self):
        return json.loads(self.page.evaluate("localStorage.getItem('llmjob.turns')") or "[]")

    def quiet(self, what, but=None):
        """The console is silent, and nothing was asked of anybody else."""
        said = [line for line in self.said if not (but and re.search(but, line))]
        check(f"{what}: the console is silent", not said, said)
        others = [url for url in self.asked if not url.startswith((self.url + "/", "blob:" + self.url))]
        check(f"{what}: nothing is asked of another server", not others, others)


def api_answer(url, **body):
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps({"model": "smol", **body}).encode(),
                                     {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60).read().decode()


# ---- talk ----------------------------------------------------------------------------------------
def talk(browser, url):
    visit = Visit(browser, url, accept_downloads=True)
    check("the page names the model", visit("#model").input_value() == "smol")
    visit.quiet("loading")
    visit.set(temperature="0", max="48")
    question = "Name three animals that live in the sea."
    visit.ask(question)
    lengths = set()
    while visit(".assistant").last.get_attribute("aria-busy") == "true":
        lengths.add(len(visit(".assistant .body").last.text_content()))
    answer = visit.answered()
    check("an answer comes piece by piece", len(lengths) >= 3, lengths)
    whole = json.loads(api_answer(url, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=48))
    check("it is the API's", answer["text"] == whole["choices"][0]["message"]["content"], (answer, whole))
    facts = visit(".assistant .below p").last.text_content()
    tokens = whole["usage"]["completion_tokens"]
    check("time and rate are told", re.fullmatch(r"first token [\d.]+ m?s · [\d.]+ tok/s · %d tokens" % tokens, facts), facts)

    visit.ask("And three that fly?")
    second = visit.answered()
    visit.page.get_by_role("button", name="Answer again").click()
    check("the same is answered again", visit.answered()["text"] == second["text"] and len(visit.turns()) == 4)
    visit.page.reload()
    visit.ready()
    check("what was said is there after a reload", visit(".turn").count() == 4)
    with visit.page.expect_download() as download:
        visit("#export").click()
    exported = json.loads(open(download.value.path()).read())
    check("it is exported", exported["turns"] == visit.turns() and exported["settings"]["max"] == "48", exported)

    visit.set(mode="text", max="1500")
    visit.ask(LONG)
    visit.streaming()
    visit("#send").click()
    stopped = visit.answered()
    check("an answer is stopped and stays", stopped["note"] == "Stopped." and len(stopped["text"]) >= 20, stopped)
    visit.ask(LONG)
    visit.streaming(1)
    visit("#send").click()
    visit.answered()
    visit.page.get_by_role("button", name="Edit").click()
    check("the last question can be written anew", visit("#text").input_value() == LONG and len(visit.turns()) == 6)
    visit("#new").click()
    check("the conversation is removed", visit(".turn").count() == 0 and not visit.turns() and visit("#empty").is_visible())
    visit("#notice button").click()
    check("and brought back", visit(".turn").count() == 6 and len(visit.turns()) == 6)
    visit.quiet("talking")
    refused = Visit(browser, url)
    refused.set(max="4")
    refused.ask("word " * 3000)
    refused.answered()
    said = refused(".said[role=alert]").text_content()
    check("what the server refuses is told in its words", "2048" in said, said)
    check("no cookie is set", not visit.context.cookies())


# ---- keys ----------------------------------------------------------------------------------------
def focus(visit):
    return visit.page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")


def keys(browser, url):
    visit = Visit(browser, url)
    keyboard = visit.page.keyboard
    check("one may write at once", focus(visit) == "text", focus(visit))
    visit.set(temperature="0", max="8")
    visit("#text").focus()
    keyboard.type("Say one word.")
    keyboard.press("Shift+Enter")
    keyboard.type("Only one.")
    check("Shift+Enter is a new line", visit("#text").input_value() == "Say one word.\nOnly one.")
    keyboard.press("Enter")
    visit.answered()
    check("Enter sends both", visit.turns()[0]["text"] == "Say one word.\nOnly one." and focus(visit) == "text")
    visit.set(mode="text", max="1500")
    visit("#new").click()
    check("a new conversation begins where one writes", focus(visit) == "text", focus(visit))
    keyboard.type(LONG)
    keyboard.press("Enter")
    visit.streaming()
    keyboard.press("Escape")
    check("Escape stops", visit.answered().get("note") == "Stopped.", visit.turns()[-1])
    visit.page.reload()
    visit.ready()
    visit("#new").focus()
    order, shown = [], []
    for _ in range(20):
        keyboard.press("Tab")
        if focus(visit) == "text":
            break
        order.append(focus(visit))
        shown.append(visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    buttons = visit(".turn button").count()
    check("Tab goes from the head through the conversation", order == ["export", "theme", "open"] + ["icon"] * buttons, order)
    check("and shows where it is", set(shown) == {"solid"}, list(zip(order, shown)))
    visit("#open").focus()
    keyboard.press("Enter")
    check("the settings open, with the focus in them", focus(visit) == "close" and visit("#settings").is_visible())
    keyboard.press("Escape")
    check("Escape closes them, and the focus is back", focus(visit) == "open" and not visit("#settings").is_visible())
    visit("#open").click()
    nameless = [line for line in visit("body").aria_snapshot().splitlines()
                if re.fullmatch(r"\s*- (button|textbox|combobox|slider|spinbutton):?.*", line) and '"' not in line]
    check("whatever one presses has a name", not nameless, nameless)
    spoken = visit("#live").get_attribute("role"), visit("#notice").get_attribute("role"), visit("#log").get_attribute("role")
    check("what happens is announced", spoken == ("status", "alert", "log"), spoken)
    visit.quiet("the keyboard")


# ---- text ----------------------------------------------------------------------------------------
def inert(visit, what, text):
    """The text is there as it is, and nothing came of it."""
    made = visit("#log :is(img, script, a, iframe, form, style, link)").count()
    check(f"{what}: is shown", text in visit("#log").text_content(), visit("#log").text_content()[:500])
    check(f"{what}: is nothing but text", made == 0 and visit.page.title() == "smol", (made, visit.page.title()))


def text(browser, url):
    visit = Visit(browser, url)
    visit.set(temperature="0", max="8")
    visit.ask(HOSTILE)
    visit.answered()
    inert(visit, "what a user wrote", HOSTILE)
    visit("#new").click()
    visit.set(mode="text", max="64")
    visit.ask('<img src=x onerror="document.title=1">\n' * 8)
    answer = visit.answered()["text"]
    check("the model goes on with HTML", "<img src=x onerror=" in answer, answer)
    inert(visit, "what the model wrote", "<img src=x onerror=")
    forms = f"# {HOSTILE}\n\n{HOSTILE}\n\n- {HOSTILE}\n\n> {HOSTILE}\n\n| {HOSTILE} |\n\n**{HOSTILE}** `{HOSTILE}`\n\n```{HOSTILE}\n```html\n{HOSTILE}\n```"
    stored = [{"role": "user", "text": HOSTILE}, {
        "role": "assistant", "text": forms, "note": HOSTILE, "error": HOSTILE, "facts": [HOSTILE],
        "sources": [{"file": HOSTILE, "quote": HOSTILE}]}]
    visit.page.evaluate("turns => localStorage.setItem('llmjob.turns', turns)", json.dumps(stored))
    visit.page.reload()
    visit.ready()
    inert(visit, "what was kept, in each form", HOSTILE)
    check("in all of them", visit("#log").text_content().count("<script>") == 15, visit("#log").text_content())
    check("forms of text are seen", visit(".assistant .body :is(h3, ul, blockquote, table, pre, strong)").count() == 6)
    for bad in ('{"a":1}', "[1,null,{}]", "[", '[{"role":"assistant","text":"x","sources":7}]'):
        visit.page.evaluate("turns => localStorage.setItem('llmjob.turns', turns)", bad)
        visit.page.reload()
        visit.ready()
    check("what is kept and makes no sense is passed over", visit("#empty").is_visible())
    visit.quiet("hostile text")

    stream = api_answer(url, messages=[{"role": "user", "content": "Write: ä, 語, 😀."}], max_tokens=12, temperature=0,
                        stream=True, stream_options={"include_usage": True})
    cut = visit.page.evaluate("""async stream => {
        const { events, take } = await import("./answer.js"), bytes = new TextEncoder().encode(stream), all = new Set();
        for (let at = 0; at <= bytes.length; at++) {
            const push = events(), decoder = new TextDecoder(), answer = { text: "", sources: [] };
            for (const piece of [bytes.slice(0, at), bytes.slice(at)])
                for (const data of push(decoder.decode(piece, { stream: true })))
                    if (data !== "[DONE]") take(answer, JSON.parse(data));
            all.add(JSON.stringify(answer));
        }
        return [...all];
    }""", stream)
    answer = json.loads(cut[0])
    check("a stream means the same wherever it is cut", len(cut) == 1 and answer["text"] and answer["usage"], cut)
    cited = visit.page.evaluate("""async () => {
        const { take } = await import("./answer.js"), answer = { text: "", sources: [] };
        const annotations = [{ type: "file_citation", file_citation: { filename: "a.txt", quote: "words" } },
            { type: "file_citation", filename: "b.txt", file_id: "file-2", index: 3 }, { type: "url_citation" }];
        take(answer, { choices: [{ delta: { content: "x", annotations } }] });
        return answer.sources;
    }""")
    check("citations become sources", cited == [{"file": "a.txt", "quote": "words"}, {"file": "b.txt", "quote": ""}], cited)
    stored[1] |= {"sources": cited}
    visit.page.evaluate("turns => localStorage.setItem('llmjob.turns', turns)", json.dumps(stored))
    visit.page.reload()
    visit(".sources summary").first.click()
    check("which are shown", visit(".sources blockquote").first.is_visible() and visit(".sources li").count() == 2)

    guard = visit.page.evaluate("""() => ["innerHTML", "outerHTML"].map(name => {
        try { document.getElementById("live")[name] = "<b>x</b>"; return "taken"; } catch (e) { return e.name; }
    })""")
    check("the browser itself refuses HTML made of text", guard == ["TypeError"] * 2, guard)
    script = visit.page.evaluate("""() => { const s = document.createElement("script");
        try { s.textContent = "document.title = 3"; document.body.append(s); } catch (e) { return e.name; }
        return document.title; }""")
    check("and scripts in the text", script in ("TypeError", "smol"), script)


# ---- look ----------------------------------------------------------------------------------------
def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in (int(n) / 255 for n in re.findall(r"\d+", colour)[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(visit, selector):
    """Of the text, and of what is behind it."""
    return visit(selector).first.evaluate("""e => {
        const of = (e, name) => getComputedStyle(e)[name];
        let behind = e;
        while (of(behind, "backgroundColor") === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [of(e, "color"), of(behind, "backgroundColor")];
    }""")


def is_dark(visit):
    return luminance(colours(visit, "body")[1]) < 0.1


def look(browser, url):
    pictures = os.environ.get("SCREENSHOTS")
    for scheme in ("light", "dark"):
        visit = Visit(browser, url, color_scheme=scheme, viewport={"width": 1100, "height": 720})
        check(f"{scheme} as the system has it", is_dark(visit) == (scheme == "dark"))
        visit.set(temperature="0", max="64", system="Answer in Markdown.")
        visit.ask("Write a Python function that reverses a string, and say in two sentences how it works.")
        visit.answered()
        visit("#open").click()
        faint = []
        for selector in (".user .body", ".assistant .body", ".below p", ".fine", ".hint", "#form label", "#reset", "#model", "#status"):
            ink, paper = colours(visit, selector)
            light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
            faint += [(selector, ink, paper)] if (light + 0.05) / (dark + 0.05) < 4.5 else []
        check(f"{scheme}: all text has a contrast of 4.5 at least", not faint, faint)
        if pictures:
            visit.page.screenshot(path=f"{pictures}/page-{scheme}.png")
        for width in (320, 390):
            visit.page.set_viewport_size({"width": width, "height": 700})
            for panel in (True, False):
                wide = visit.page.evaluate("document.documentElement.scrollWidth")
                check(f"{scheme}: nothing is cut off in {width} points", wide <= width, wide)
                if panel:
                    visit("#close").click()
            small = visit("button:visible").evaluate_all(
                "all => all.map(e => e.getBoundingClientRect()).filter(r => Math.min(r.width, r.height) < 24).length")
            check(f"{scheme}: a finger hits all buttons", small == 0, small)
            if pictures and width == 390:
                visit.page.screenshot(path=f"{pictures}/page-phone-{scheme}.png")
            visit("#open").click()
        visit("#close").click()
        seen = []
        for _ in range(3):
            visit("#theme").click()
            seen.append(is_dark(visit))
        check(f"{scheme}: the switch is light, dark, the system's", seen == [False, True, scheme == "dark"], seen)
        visit("#theme").click()
        visit.page.reload()
        visit.ready()
        check(f"{scheme}: and is remembered", not is_dark(visit))
        visit.quiet(scheme)


# ---- gone ----------------------------------------------------------------------------------------
def gone(browser, url, agent):
    visit = Visit(browser, url)
    visit.set(mode="text", max="1500", temperature="0")
    visit.ask(LONG)
    visit.streaming()
    os.kill(int(agent), signal.SIGKILL)
    answer = visit.answered()
    check("an answer that breaks off says so, and stays", answer.get("error") and len(answer["text"]) >= 20, answer)
    expect(visit("#status")).not_to_have_attribute("data-state", "ready", timeout=WAIT_MS)
    check("that nobody answers is told", visit("#status").text_content().strip() != "Ready")
    visit.ready()
    check("and when somebody does again", True)
    visit.set(max="8")
    visit.page.get_by_role("button", name="Answer again").click()
    again = visit.answered()
    check("which then answers", again["text"] and not again.get("error"), again)
    visit.quiet("a server that goes", but=r"Failed to load resource")


# ---- key -----------------------------------------------------------------------------------------
def key(browser, url, right):
    visit = Visit(browser, url, ready=False)
    expect(visit("#key")).to_be_focused(timeout=WAIT_MS)
    check("a key is asked for", "asks for a key" in visit("#key-said").text_content())
    visit.page.keyboard.type("sk-wrong")
    visit.page.keyboard.press("Enter")
    expect(visit("#key-said")).to_have_text(re.compile("does not know this key"), timeout=WAIT_MS)
    check("a wrong one is told", visit("#key-said").get_attribute("role") == "alert")
    visit.ask("Hello?")
    visit.answered()
    check("and refused", "not one of its keys" in visit(".said[role=alert]").text_content())
    visit("#key").fill(right)
    visit("#key").press("Enter")
    visit.ready()
    visit("#close").click()
    visit.page.get_by_role("button", name="Answer again").click()
    check("the right one is taken", visit.answered()["text"])
    kept = visit.page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
    check("and kept with the tab alone", right in kept[0] and right not in kept[1] and not visit.context.cookies(), kept)
    visit.page.reload()
    visit.ready()
    check("where a reload finds it", visit("#key").input_value() == right)
    other = visit.context.new_page()
    other.goto(url + "/")
    expect(other.locator("#key")).to_be_focused(timeout=WAIT_MS)
    check("another tab does not", other.locator("#key").input_value() == "")
    visit.quiet("a key", but=r"status of 401")


PARTS = {"talk": talk, "keys": keys, "text": text, "look": look, "gone": gone, "key": key}


def main():
    chromium, part, url, *more = sys.argv[1:]
    with sync_playwright() as playwright, contextlib.closing(
            playwright.chromium.launch(executable_path=chromium)) as browser:
        try:
            PARTS[part](browser, url, *more)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            check(f"{part} comes to its end", False)
    print(f"{counts[True]} passed, {counts[False]} failed, 0 skipped")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
