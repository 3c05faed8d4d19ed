// The page of a served model. What the model or a user wrote becomes text nodes, and never HTML: the server forbids all else.
import { blocks, events, inlines, take } from "./answer.js";
import { $, browser, colour, el, keep, kept, proof, status, svg, tab } from "./common.js";

const DEFAULTS = { mode: "chat", system: "", temperature: "0.7", top_p: "0.95", max: "512", seed: "" };
const ABOUT = "The answer comes from this server, word by word.";

// -- what is kept --

function parsed(text, otherwise) {
  try { return JSON.parse(text) ?? otherwise; } catch { return otherwise; }
}
const isTurn = t => /^(user|assistant)$/.test(t?.role) && typeof t.text === "string" &&
  [t.sources ?? [], t.facts ?? []].every(Array.isArray);

const settings = { ...DEFAULTS, ...parsed(kept(browser, "settings"), {}) };
let turns = parsed(kept(browser, "turns"), []);
turns = Array.isArray(turns) ? turns.filter(isTurn) : [];
let key = kept(tab, "key") ?? "", stopper = null, dropped = null;

const keepTurns = () => keep(browser, "turns", turns.length && JSON.stringify(turns));

// -- pieces of the page --

const icon = name => svg("svg", {}, svg("use", { href: `#i-${name}` }));
function button(name, label, pressed) {
  return el("button", { type: "button", className: "icon", title: label, "aria-label": label, onclick: pressed }, icon(name));
}
const say = text => { $("live").textContent = text; };
function notice(text, calm, label, pressed) {
  const [span, act] = $("notice").children;
  span.textContent = text;
  act.textContent = label ?? "Dismiss";
  act.onclick = () => { $("notice").hidden = true; pressed?.(); $("text").focus(); };
  $("notice").className = calm ? "calm" : "";
  $("notice").hidden = !text;
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = el("textarea", { value: text, className: "sr" }); // pages without TLS have no clipboard
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (!done) throw new Error("not copied");
}
function copyButton(label, text) {
  const b = button("copy", label, async () => {
    const done = await copy(text()).then(() => true, () => false);
    b.replaceChildren(icon(done ? "done" : "copy"));
    say(done ? "Copied" : "The browser did not allow to copy");
    setTimeout(() => b.replaceChildren(icon("copy")), 1500);
  });
  return b;
}

// -- an answer's text --

const line = text => inlines(text).map(([kind, part]) => kind ? el(kind, {}, part) : part);
const builders = {
  p: b => el("p", {}, ...line(b.text)),
  h: b => el("h3", {}, ...line(b.text)),
  quote: b => el("blockquote", {}, ...line(b.text)),
  code: b => el("figure", {},
    el("figcaption", {}, b.language || "text", copyButton("Copy the code", () => b.text)),
    el("pre", { tabIndex: 0 }, el("code", {}, b.text))),
  list: b => el(b.ordered ? "ol" : "ul", {}, ...b.items.map(item => {
    const li = el("li", { className: item.number ? "number" : "" }, ...line(item.text));
    li.style.marginLeft = `${1.4 * item.depth}rem`;
    if (item.number) li.value = item.number;
    return li;
  })),
  table: b => el("div", { className: "wide", tabIndex: 0 }, el("table", {}, ...b.rows.map((cells, i) =>
    el("tr", {}, ...cells.map(cell => el(i ? "td" : "th", {}, ...line(cell))))))),
};
// Only from the first block on that has changed: what stands above may be selected meanwhile.
function draw(body, text) {
  const now = blocks(text), was = body.drawn ?? [], next = now.map(b => JSON.stringify(b));
  let same = 0;
  while (same < next.length && next[same] === was[same]) same++;
  while (body.children.length > same) body.lastChild.remove();
  body.append(...now.slice(same).map(b => builders[b.kind](b)));
  body.drawn = next;
}

// -- turns --

function below(turn, busy, last) {
  const row = el("div", { className: "below" }), facts = [...turn.facts ?? []];
  if ($("model").options.length > 1) facts.unshift(turn.model);
  if (turn.text && !busy) row.append(copyButton("Copy", () => turn.text));
  if (turn.role === "user") {
    if (last) row.append(button("edit", "Edit", edit));
    return row;
  }
  if (last) row.append(button("again", "Answer again", again));
  row.append(el("p", {}, facts.join(" · ")));
  return row;
}
function sourcesOf(turn) {
  const list = turn.sources.map(s => el("li", {}, el("details", { open: true },
    el("summary", {}, icon("file"), s.file), el("blockquote", {}, s.quote || "No words are quoted."))));
  return el("section", { className: "sources", "aria-label": "Sources" }, el("h3", {}, "Sources"), el("ol", {}, ...list));
}
function fill(article, turn, busy, last) {
  const body = article.querySelector(".body");
  if (turn.role === "user") body.textContent = turn.text;
  else draw(body, turn.text);
  article.setAttribute("aria-busy", busy);
  while (body.nextSibling) body.nextSibling.remove();
  if (turn.sources?.length) article.append(sourcesOf(turn));
  if (turn.error) article.append(el("p", { className: "said", role: "alert" }, turn.error));
  if (turn.note) article.append(el("p", { className: "said" }, turn.note));
  article.append(below(turn, busy, last));
}
function show(turn, busy, last) {
  const who = turn.role === "user" ? "You" : "Answer";
  const article = el("article", { className: `turn ${turn.role}`, "aria-label": who }, el("div", { className: "body" }));
  fill(article, turn, busy, last);
  $("log").append(article);
}
// busy: the last one is being answered.
function showAll(busy = false) {
  $("log").replaceChildren();
  turns.forEach((t, i) => show(t, busy && i === turns.length - 1, !busy && i >= turns.length - 2));
  showState();
  toEnd();
}
function showState() {
  $("empty").hidden = turns.length > 0;
  $("new").disabled = $("export").disabled = !turns.length || !!stopper;
  $("send").replaceChildren(icon(stopper ? "stop" : "send"));
  $("send").title = stopper ? "Stop (Esc)" : "Send";
  $("send").setAttribute("aria-label", stopper ? "Stop" : "Send");
  $("send").disabled = !stopper && !$("text").value.trim();
}

const box = $("scroll");
const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 80;
function toEnd() {
  box.scrollTop = box.scrollHeight;
  $("latest").hidden = true;
}
box.onscroll = () => { $("latest").hidden = atEnd(); };
$("latest").onclick = () => { toEnd(); $("text").focus(); };

// -- asking --

// Of what was said those turns that have an answer, and the last.
function request() {
  const text = settings.mode === "text", asked = turns.slice(0, -1), messages = [];
  if (settings.system.trim()) messages.push({ role: "system", content: settings.system });
  asked.forEach((t, i) => {
    const answer = t.role === "user" ? asked[i + 1] : t;
    if (i === asked.length - 1 || answer?.text) messages.push({ role: t.role, content: t.text });
  });
  return {
    model: $("model").value,
    ...text ? { prompt: asked.at(-1).text, max_tokens: +settings.max } : { messages, max_completion_tokens: +settings.max },
    temperature: +settings.temperature,
    top_p: +settings.top_p,
    ...settings.seed !== "" && { seed: +settings.seed },
    stream: true,
    stream_options: { include_usage: true },
  };
}
async function refusal(response) {
  const said = parsed(await response.text().catch(() => ""), {})?.error?.message;
  const text = said ?? `The server answered ${response.status} ${response.statusText}`;
  return Object.assign(new Error(text), { status: response.status });
}

const seconds = ms => ms < 995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
function factsOf(answer, times) {
  const tokens = answer.usage?.completion_tokens ?? times.pieces, about = answer.usage ? "" : "about ";
  const span = times.last - times.first;
  return [
    times.first && `first token ${seconds(times.first - times.begun)}`,
    tokens > 1 && span > 0 && `${about}${((tokens - 1) / span * 1000).toFixed(1)} tok/s`,
    tokens && `${about}${tokens} token${tokens === 1 ? "" : "s"}`,
  ].filter(f => f);
}

async function stream(answer, times, changed) {
  const path = settings.mode === "text" ? "v1/completions" : "v1/chat/completions";
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...proof(key) },
    body: JSON.stringify(request()),
    signal: stopper.signal,
  });
  if (!response.ok) throw await refusal(response);
  const reader = response.body.getReader(), decoder = new TextDecoder(), push = events();
  for (let ended = false; ;) {
    const { done, value } = await reader.read();
    if (done && !ended) throw new Error("The connection broke off");
    if (done) return;
    for (const data of push(decoder.decode(value, { stream: true }))) {
      const before = answer.text.length;
      if (data === "[DONE]") ended = true;
      else take(answer, JSON.parse(data));
      if (answer.text.length > before) {
        times.last = performance.now();
        times.first ||= times.last;
        times.pieces++;
      }
    }
    changed();
  }
}

// Asks for an answer to what stands last.
async function ask() {
  const answer = { role: "assistant", text: "", model: $("model").value, sources: [] };
  const times = { begun: performance.now(), first: 0, last: 0, pieces: 0 };
  let drawing = 0, failed = null;
  stopper = new AbortController();
  notice("");
  turns.push(answer);
  showAll(true);
  const article = $("log").lastChild;
  const redraw = () => {
    const follow = atEnd();
    drawing = 0;
    answer.facts = factsOf(answer, times);
    fill(article, answer, true);
    if (follow) toEnd();
  };
  say("Answering");
  try {
    await stream(answer, times, () => { drawing ||= setTimeout(redraw, 16 + answer.text.length / 500); });
  } catch (e) {
    failed = e;
  }
  clearTimeout(drawing);
  answer.facts = factsOf(answer, times);
  if (stopper.signal.aborted) answer.note = "Stopped.";
  else if (failed) answer.error = await explain(failed);
  else if (answer.finish === "length") answer.note = "Cut where the most tokens of an answer, or the context, end.";
  else if (!answer.text) answer.note = "The model said nothing.";
  delete answer.usage;
  delete answer.finish;
  stopper = null;
  keepTurns();
  const follow = atEnd(), at = box.scrollTop;
  showAll();
  if (!follow) box.scrollTop = at;
  say(answer.error ?? `${answer.note ?? ""} ${answer.text.slice(0, 2000)}`);
}
async function explain(e) {
  if (e.status === 401) {
    wantKey();
    return "The server wants an API key, and this is not one of its keys.";
  }
  if (e.status === 429) return `${e.message}: answer again in a moment.`;
  known = known && e.status !== 404; // another model may be served by now
  look();
  if (e.status) return `${e.message}.`;
  return e instanceof TypeError ? "The server does not answer." : `${e.message}.`;
}
function stop() {
  stopper?.abort();
}
function send(text) {
  if (stopper || !text.trim()) return;
  if (!$("form").reportValidity()) return openSettings(true);
  dropped = null;
  turns.push({ role: "user", text });
  $("text").value = "";
  ask();
}
function again() {
  if (stopper || turns.at(-1)?.role !== "assistant") return;
  turns.pop();
  $("text").focus();
  ask();
}
// The last question goes back to where it was written.
function edit() {
  const from = turns.findLastIndex(t => t.role === "user");
  if (stopper || from < 0) return;
  $("text").value = turns[from].text;
  turns.length = from;
  keepTurns();
  showAll();
  $("text").focus();
}

$("composer").onsubmit = event => {
  event.preventDefault();
  if (stopper) stop();
  else send($("text").value);
  $("text").focus();
};
$("text").oninput = showState;
$("text").onkeydown = event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send($("text").value);
};
addEventListener("keydown", event => {
  if (event.key !== "Escape" || event.isComposing) return;
  if (stopper) stop();
  else if (!$("settings").hidden) openSettings(false);
});
$("new").onclick = () => {
  dropped = turns;
  turns = [];
  keepTurns();
  showAll();
  notice("The conversation was removed.", true, "Undo", () => { turns = dropped; keepTurns(); showAll(); });
  $("text").focus();
};
$("export").onclick = () => {
  const all = { exported: new Date().toISOString(), settings, turns };
  const url = URL.createObjectURL(new Blob([JSON.stringify(all, null, 2)], { type: "application/json" }));
  el("a", { href: url, download: "conversation.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};

// -- settings --

function openSettings(open, focus = open ? "close" : "open") {
  $("settings").hidden = !open;
  $("open").setAttribute("aria-expanded", open);
  $(focus).focus();
}
$("open").onclick = () => openSettings($("settings").hidden);
$("close").onclick = () => openSettings(false);
function showSettings() {
  for (const field of $("form").elements) {
    if (field.name) field.value = settings[field.name];
    if (field.type === "range") field.previousElementSibling.firstElementChild.value = (+field.value).toFixed(2);
  }
}
$("form").oninput = event => {
  if (!event.target.name) return;
  settings[event.target.name] = event.target.value;
  showSettings();
  if (event.target.validity.valid) keep(browser, "settings", JSON.stringify(settings));
};
$("form").onsubmit = event => event.preventDefault();
$("reset").onclick = () => {
  Object.assign(settings, DEFAULTS);
  keep(browser, "settings", "");
  showSettings();
};

// -- the key --

function keySaid(text, wrong) {
  $("key-said").textContent = text;
  $("key-said").setAttribute("role", wrong ? "alert" : "note");
  $("key").setAttribute("aria-invalid", wrong);
}
function wantKey() {
  wanting = true;
  status("wait", "Key needed");
  keySaid(key ? "The server does not know this key." : "This server asks for a key.", true);
  openSettings(true, "key");
}
$("key").onchange = () => {
  key = $("key").value.trim();
  wanting = false;
  keep(tab, "key", key);
  keySaid("Forgotten when this tab is closed.", false);
  look();
};

// -- the server: is it there, and what does it serve --

let timer = 0, tries = 0, known = false, wanting = false; // wanting: a key other than this one
async function models() {
  const response = await fetch("v1/models", { headers: proof(key) });
  if (!response.ok) throw await refusal(response);
  const { data } = await response.json(), before = known ? $("model").value : kept(browser, "model");
  $("model").replaceChildren(...data.map(m => el("option", { value: m.id }, m.parent ? `${m.id} (${m.parent})` : m.id)));
  $("model").value = data.some(m => m.id === before) ? before : data[0]?.id;
  $("model").disabled = data.length < 2;
  const about = () => {
    const context = data.find(m => m.id === $("model").value)?.max_model_len;
    document.title = $("model").value;
    $("about").textContent = context ? `${ABOUT} A conversation may have ${context.toLocaleString("en")} tokens.` : ABOUT;
  };
  $("model").onchange = () => { keep(browser, "model", $("model").value); about(); };
  about();
  known = true;
}
// Asks, and asks again: soon while something is wrong.
async function look() {
  clearTimeout(timer);
  let wait = document.hidden ? 60000 : 15000;
  try {
    const health = await fetch("health", { signal: AbortSignal.timeout(5000) });
    if (!health.ok) {
      status("wait", "The model is loading");
      wait = 1000;
    } else if (!wanting) {
      if (!known || $("status").dataset.state !== "ready") await models();
      status("ready", "Ready");
      tries = 0;
    }
  } catch (e) {
    if (e.status === 401) {
      wantKey();
    } else {
      status("gone", "No answer; trying again");
      wait = Math.min(10000, 500 * 2 ** tries++);
    }
  }
  clearTimeout(timer);
  timer = setTimeout(look, wait);
}
document.onvisibilitychange = () => { if (!document.hidden) look(); };

// -- light and dark --

const THEMES = { "": "as the system has it", light: "light", dark: "dark" };
let theme = kept(browser, "theme") ?? "";
function showTheme() {
  colour(theme);
  $("theme").title = `Colours: ${THEMES[theme] ?? theme}`;
  $("theme").setAttribute("aria-label", $("theme").title);
}
$("theme").onclick = () => {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  keep(browser, "theme", theme);
  showTheme();
  say($("theme").title);
};

showTheme();
$("about").textContent = ABOUT;
$("key").value = key;
showSettings();
showAll();
look();
