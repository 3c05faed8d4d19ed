#!/usr/bin/env python3
"""page.py CHROMIUM PART URL [ARGUMENT]: what page.sh has a browser do with the page at URL.

    talk URL        answers that stream, stop, come again; what is kept, exported and removed
    keys URL        all of it by keyboard, with a visible focus
    text URL        what is written stays text; streams cut anywhere; citations of any form
    sources URL DOCUMENTS   answers out of documents, in that folder, and what they cite
    watch URL LINES KEY     what is watched, while the LINES of a stream with a burst come in
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

    def __init__(self, browser, url, ready=True, path="/", **options):
        self.context = browser.new_context(**options)
        self.page, self.url, self.said, self.asked = self.context.new_page(), url, [], []
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.head = self.page.goto(url + path).headers
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


def api(url, path, body=None, key=None):
    request = urllib.request.Request(url + path, body, {"Content-Type": "application/json", **({"Authorization": "Bearer " + key} if key else {})})
    return urllib.request.urlopen(request, timeout=WAIT_MS / 1000).read().decode()


def api_answer(url, **body):
    return api(url, "/v1/chat/completions", json.dumps({"model": "smol", **body}).encode())


def nothing_is_made_of_text(visit, element):
    """The answer's header and the browser itself forbid it."""
    policy = visit.head["content-security-policy"]
    check("all but what the page does is forbidden", policy.startswith("default-src 'none';") and "unsafe" not in policy
          and "trusted-types 'none'" in policy and "http" not in policy, policy)
    title = visit.page.title()
    guard = visit.page.evaluate("""id => ["innerHTML", "outerHTML"].map(name => {
        try { document.getElementById(id)[name] = "<b>x</b>"; return "taken"; } catch (e) { return e.name; }
    })""", element)
    check("the browser itself refuses HTML made of text", guard == ["TypeError"] * 2, guard)
    script = visit.page.evaluate("""() => { const s = document.createElement("script");
        try { s.textContent = "document.title = 3"; document.body.append(s); } catch (e) { return e.name; }
        return document.title; }""")
    check("and scripts in the text", script in ("TypeError", title), script)


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
    check("which are shown, with their words", visit(".sources blockquote:visible").all_text_contents() ==
          ["words", "No words are quoted."] and visit(".sources li").count() == 2)
    nothing_is_made_of_text(visit, "live")


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


def legible(visit, what, *selectors):
    faint = []
    for selector in selectors:
        ink, paper = colours(visit, selector)
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        faint += [(selector, ink, paper)] if (light + 0.05) / (dark + 0.05) < 4.5 else []
    check(f"{what}: all text has a contrast of 4.5 at least", not faint, faint)


def look(browser, url):
    pictures = os.environ.get("SCREENSHOTS")
    for scheme in ("light", "dark"):
        visit = Visit(browser, url, color_scheme=scheme, viewport={"width": 1100, "height": 720})
        check(f"{scheme} as the system has it", is_dark(visit) == (scheme == "dark"))
        visit.set(temperature="0", max="64", system="Answer in Markdown.")
        visit.ask("Write a Python function that reverses a string, and say in two sentences how it works.")
        visit.answered()
        visit("#open").click()
        legible(visit, scheme, ".user .body", ".assistant .body", ".below p", ".fine", ".hint", "#form label", "#reset", "#model", "#status")
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


# ---- sources -------------------------------------------------------------------------------------
def sources(browser, url, documents):
    visit = Visit(browser, url)
    visit.set(temperature="0", max="96")
    question = "What must the version number of a package begin with?"
    visit.ask(question)
    cited = visit.answered()["sources"]
    names = visit("#model").input_value()
    said = json.loads(api_answer(url, model=names, messages=[{"role": "user", "content": question}], temperature=0,
                                 top_p=0.95, max_tokens=96))["choices"][0]["message"]
    check("an answer out of documents has sources", cited, said)
    check("they are those that the API tells of", cited == [{"file": a["filename"], "quote": a["quote"]} for a in said["annotations"]], (cited, said))
    shown = list(zip(visit(".sources summary").all_text_contents(), visit(".sources blockquote:visible").all_text_contents()))
    check("each is shown below the answer, with the words that it is cited for", shown == [(c["file"], c["quote"]) for c in cited], shown)
    stand = [c for c in cited if c["quote"] in open(os.path.join(documents, c["file"]), encoding="utf-8").read()]
    check("which stand in the document so", stand == cited, cited)
    visit("#new").focus()
    reached = []
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        if focus(visit) == "text":
            break
        reached += [focus(visit)] if focus(visit) == "SUMMARY" else []
    check("the keyboard reaches every one", len(reached) == len(cited), reached)
    visit(".sources summary").first.focus()
    visit.page.keyboard.press("Enter")
    check("Enter folds one", visit(".sources blockquote:visible").count() == len(cited) - 1)
    visit.page.keyboard.press("Enter")
    check("and unfolds it", visit(".sources blockquote:visible").count() == len(cited))
    check("and shows where it is", visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid")
    legible(visit, "sources", ".sources h3", ".sources summary", ".sources blockquote")
    visit.page.set_viewport_size({"width": 320, "height": 700})
    check("nothing is cut off on a phone", visit.page.evaluate("document.documentElement.scrollWidth") <= 320)
    visit.page.reload()
    visit.ready()
    check("they are there after a reload", visit(".sources blockquote").all_text_contents() == [c["quote"] for c in cited])
    visit.quiet("sources")


# ---- watch ---------------------------------------------------------------------------------------
def last_heights(curves):
    """Of each label, where its curve must end: 4 points from the rim, of 240."""
    n = len(curves["texts"]) // 4
    return {label["name"]: "%.1f" % (236 - 232 * sum(label["texts"][-n:]) / sum(curves["texts"][-n:])) for label in curves["labels"]}


def watch(browser, url, path, key):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines(keepends=True)
    now = int(time.time()) - 3600 * 24  # so that all of it lies behind
    lines = ["".join(json.dumps({**json.loads(line), "time": now + 10 * i}) + "\n") for i, line in enumerate(lines)]
    post = lambda part: api(url, "/v1/monitor", "".join(part).encode(), key)
    visit = Visit(browser, url, ready=False, path="/monitor", color_scheme="light")
    expect(visit("#status")).to_have_attribute("data-state", "gone", timeout=WAIT_MS)
    check("a key is asked for", visit("#key").is_visible() and "API key" in visit("#status").text_content())
    check("and nothing is told without", visit(".alert").count() + visit("polyline").count() == 0)
    visit.page.keyboard.press("Tab")
    check("the keyboard is there at once", focus(visit) == "key", focus(visit))
    visit.page.keyboard.type(key)
    visit.page.keyboard.press("Enter")
    visit.ready()
    check("the page names the model", visit("#model").text_content() == json.loads(api(url, "/v1/monitor", key=key))["model"])
    expect(visit(".alert")).to_have_attribute("data-state", "inactive", timeout=WAIT_MS)
    quiet, burst = len(lines) * 4 // 10, len(lines) * 6 // 10
    post(lines[:quiet])
    expect(visit("#sums")).to_have_text(re.compile("^%d texts" % quiet), timeout=WAIT_MS)
    check("the quiet before alarms nobody", visit(".alert").get_attribute("data-state") == "inactive")
    back = colours(visit, ".alert")[1]
    post(lines[quiet:burst])
    expect(visit(".alert")).to_have_attribute("data-state", "firing", timeout=WAIT_MS)
    check("an alert that fires is seen", colours(visit, ".alert")[1] != back and "firing" in visit(".alert h2").text_content())
    expect(visit("#sums")).to_have_text(re.compile("^%d texts" % burst), timeout=WAIT_MS)
    names = visit("#legend li").all_text_contents()

    def both():  # the page is two seconds behind
        told = json.loads(api(url, "/v1/monitor", key=key))
        ends = [p.split()[-1].split(",") for p in visit("polyline").evaluate_all("all => all.map(e => e.getAttribute('points'))")]
        share = visit(".alert .share").text_content()
        return told, share, ends, (share == "%.1f %%" % (100 * told["alerts"][0]["share"]) and
                                   [(name, "720.0", last_heights(told["curves"])[name]) for name in names] ==
                                   [(name, *end) for name, end in zip(names, ends)])
    until(lambda: both()[-1], 20)
    told, share, ends, same = both()
    check("a curve a label", sorted(names) == sorted(label["name"] for label in told["curves"]["labels"]) and len(ends) == len(names) > 1, names)
    check("which ends as high as its share, and the alert's share is told", same, (share, ends, told))
    size = visit("polyline").first.bounding_box()
    check("which has a size and a colour", size["width"] > 100 and visit("polyline").first.evaluate("e => getComputedStyle(e).stroke") != "none", size)
    level = float(visit("#chart > line").get_attribute("y1"))
    check("and a line from which on it fires", abs(level - (236 - 232 * told["alerts"][0]["fireShare"])) <= 0.1, level)
    legible(visit, "firing", ".alert h2", ".alert p:last-child", ".alert .share", "#legend li", "#sums", "#status", "#model")
    post(lines[burst:])
    expect(visit(".alert")).to_have_attribute("data-state", "inactive", timeout=WAIT_MS)
    resolved = visit(".alert").text_content()
    check("it resolves, and both times are told", "never" not in resolved, resolved)
    for width in (320, 1100):
        visit.page.set_viewport_size({"width": width, "height": 700})
        wide = visit.page.evaluate("document.documentElement.scrollWidth")
        check(f"nothing is cut off in {width} points", wide <= width, wide)
    check("light as the system has it", not is_dark(visit))
    visit.page.emulate_media(color_scheme="dark")
    check("and dark", is_dark(visit))
    legible(visit, "dark", ".alert h2", ".alert p:last-child", ".alert .share", "#legend li", "#sums", "#status", "#model")
    if os.environ.get("SCREENSHOTS"):
        visit.page.screenshot(path=os.environ["SCREENSHOTS"] + "/monitor-dark.png")
    visit.page.evaluate("localStorage.setItem('llmjob.theme', 'light')")
    visit.page.reload()
    visit.ready()
    check("or as the other page was told, and with its key", not is_dark(visit) and visit("#key").is_visible())
    check("no cookie is set", not visit.context.cookies())
    visit.quiet("watching", but=r"status of 401")
    nothing_is_made_of_text(visit, "sums")


PARTS = {"talk": talk, "keys": keys, "text": text, "look": look, "gone": gone, "key": key, "sources": sources, "watch": watch}


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
