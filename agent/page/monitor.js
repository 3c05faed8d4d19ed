// monitor.js: what a classifier watches: GET /v1/monitor, once in two seconds, as curves and alerts. All that comes is text.

const EVERY_MS = 2000, WIDTH = 720, HEIGHT = 240, COLOURS = 6;
const $ = id => document.getElementById(id);
// What the other page keeps is meant here, too.
const kept = (store, name) => { try { return store().getItem(`llmjob.${name}`) ?? ""; } catch { return ""; } };
let key = kept(() => sessionStorage, "key");
const theme = kept(() => localStorage, "theme");
if (theme) document.documentElement.dataset.theme = theme;

function make(name, text, attributes = {}, svg = false) {
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
const percent = share => `${(100 * share).toFixed(1)} %`;
const clock = time => time ? new Date(time).toLocaleString() : "never";

function say(state, text) {
  $("status").dataset.state = state;
  $("status").firstElementChild.textContent = text;
}

function alertBox(a) {
  const box = make("article", "", { class: "alert", "data-state": a.state });
  box.append(make("h2", `${a.name}: ${a.state}`), make("p", percent(a.share), { class: "share" }),
    make("p", `of ${a.texts} texts in ${a.windowSeconds} s are ${a.label}; fires from ${percent(a.fireShare)}` +
      `${a.forSeconds ? ` for ${a.forSeconds} s` : ""}, resolves below ${percent(a.clearShare)}`),
    make("p", `fired: ${clock(a.fired)}; resolved: ${clock(a.resolved)}`));
  if (a.webhook)
    box.append(make("p", `webhook: ${a.webhook.delivered} told, ${a.webhook.waiting} waiting, ${a.webhook.dropped} given up`));
  return box;
}

// At each step the share in the longest window, a quarter of what there is; without a text the curve goes straight on.
function points(label, all) {
  const out = [], span = all.length / 4;
  for (let i = 0, n = 0, hits = 0; i < all.length; i++) {
    n += all[i] - (all[i - span] ?? 0);
    hits += label.texts[i] - (label.texts[i - span] ?? 0);
    if (n) out.push(`${(i * WIDTH / (all.length - 1)).toFixed(1)},${(HEIGHT - 4 - (HEIGHT - 8) * hits / n).toFixed(1)}`);
  }
  return out.join(" ");
}

function disks(v) {
  const late = (name, d) => `${name} has not answered for ${d.lateSeconds} s.`;
  return [
    v.source?.state === "late" ? late("The source", v.source)
      : v.source?.state === "failing" ? `The source cannot be read: ${v.source.message}.` : "",
    v.kept.state === "late" ? late("The folder of what is kept", v.kept)
      : v.kept.state === "waiting" ? "Another has what is kept: the source waits." : "",
  ].filter(text => text);
}

function show(v) {
  $("model").textContent = v.model;
  $("disks").replaceChildren(...disks(v).map(text => make("p", text, { class: "said" })));
  $("alerts").replaceChildren(...v.alerts.map(alertBox));
  const levels = v.alerts.map(a => (HEIGHT - 4 - (HEIGHT - 8) * a.fireShare).toFixed(1));
  $("chart").replaceChildren(
    ...levels.map(y => make("line", "", { x1: 0, x2: WIDTH, y1: y, y2: y }, true)),
    ...v.curves.labels.map((label, i) =>
      make("polyline", "", { points: points(label, v.curves.texts), "data-colour": i % COLOURS }, true)));
  $("legend").replaceChildren(...v.curves.labels.map((label, i) => {
    const item = make("li"), mark = make("svg", "", { viewBox: "0 0 14 4" }, true);
    mark.append(make("line", "", { x1: 0, x2: 14, y1: 2, y2: 2, "data-colour": i % COLOURS }, true));
    item.append(mark, label.name);
    return item;
  }));
  $("sums").textContent = `${v.texts} texts, ${v.wrong} lines that were none, ${v.late} too late; ` +
    `the curves are shares of ${v.curves.stepMs * v.curves.texts.length / 4000} s and end at ${clock(v.now)}`;
}

async function look() {
  try {
    const answer = await fetch("v1/monitor", { headers: key ? { Authorization: `Bearer ${key}` } : {}, cache: "no-store" });
    $("form").hidden = answer.status !== 401 && !key;
    if (answer.status === 401) say("gone", "This server wants an API key.");
    else if (answer.status === 404) say("gone", "This server watches nothing.");
    else if (!answer.ok) say("gone", `The server answers ${answer.status}.`);
    else {
      show(await answer.json());
      say("ready", "watching");
    }
  } catch {
    say("gone", "The server does not answer.");
  }
  setTimeout(look, EVERY_MS);
}

$("form").onsubmit = event => {
  event.preventDefault();
  key = $("key").value.trim();
  try { sessionStorage.setItem("llmjob.key", key); } catch { /* it is forgotten with the page */ }
};
look();
