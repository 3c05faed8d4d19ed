// monitor.js: what a classifier watches: GET /v1/monitor, once in two seconds, as curves and alerts. All that comes is text.

import { $, browser, colour, el, keep, kept, proof, status, svg, tab } from "./common.js";

const EVERY_MS = 2000, WIDTH = 720, HEIGHT = 240, COLOURS = 6;
let key = kept(tab, "key") ?? "";

const percent = share => `${(100 * share).toFixed(1)} %`;
const clock = time => time ? new Date(time).toLocaleString() : "never";

function alertBox(a) {
  const lines = [
    `of ${a.texts} texts in ${a.windowSeconds} s are ${a.label}; fires from ${percent(a.fireShare)}` +
      `${a.forSeconds ? ` for ${a.forSeconds} s` : ""}, resolves below ${percent(a.clearShare)}`,
    `fired: ${clock(a.fired)}; resolved: ${clock(a.resolved)}`,
    a.webhook && `webhook: ${a.webhook.delivered} told, ${a.webhook.waiting} waiting, ${a.webhook.dropped} given up`,
  ];
  return el("article", { className: "alert", "data-state": a.state },
    el("h2", {}, `${a.name}: ${a.state}`), el("p", { className: "share" }, percent(a.share)),
    ...lines.filter(text => text).map(text => el("p", {}, text)));
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
      : v.kept.state === "waiting" ? "The source waits for what was kept, which is not there yet." : "",
  ].filter(text => text).join(" ");
}

function show(v) {
  $("model").textContent = v.model;
  const said = disks(v);
  $("disks").hidden = !said;
  if ($("disks").textContent !== said) $("disks").textContent = said;
  $("alerts").replaceChildren(...v.alerts.map(alertBox));
  const levels = v.alerts.map(a => (HEIGHT - 4 - (HEIGHT - 8) * a.fireShare).toFixed(1));
  $("chart").replaceChildren(
    ...levels.map(y => svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y })),
    ...v.curves.labels.map((label, i) => svg("polyline", { points: points(label, v.curves.texts), "data-colour": i % COLOURS })));
  $("legend").replaceChildren(...v.curves.labels.map((label, i) =>
    el("li", {}, svg("svg", { viewBox: "0 0 14 4" }, svg("line", { x1: 0, x2: 14, y1: 2, y2: 2, "data-colour": i % COLOURS })), label.name)));
  $("sums").textContent = `${v.texts} texts, ${v.wrong} lines that were none, ${v.late} too late; ` +
    `the curves are shares of ${v.curves.stepMs * v.curves.texts.length / 4000} s and end at ${clock(v.now)}`;
}

async function look() {
  try {
    const answer = await fetch("v1/monitor", { headers: proof(key), cache: "no-store" });
    $("form").hidden = answer.status !== 401 && !key;
    if (answer.status === 401) status("gone", "This server wants an API key.");
    else if (answer.status === 404) status("gone", "This server watches nothing.");
    else if (!answer.ok) status("gone", `The server answers ${answer.status}.`);
    else {
      show(await answer.json());
      status("ready", "watching");
    }
  } catch {
    status("gone", "The server does not answer.");
  }
  setTimeout(look, EVERY_MS);
}

$("form").onsubmit = event => {
  event.preventDefault();
  key = $("key").value.trim();
  keep(tab, "key", key);
};
colour(kept(browser, "theme"));
look();
