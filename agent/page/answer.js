// What an answer is, as it comes and as it is shown, without a page: pure functions.

// Server-sent events: pieces of a stream go in, the data of whole events come out.
export function events() {
  let rest = "";
  return piece => {
    const whole = (rest + piece).split("\n\n");
    rest = whole.pop();
    return whole
      .map(e => e.split("\n").filter(l => l.startsWith("data:")).map(l => l.slice(5).trim()).join("\n"))
      .filter(data => data);
  };
}

// A place that an answer cites, {file, quote}; null for any other annotation.
export function source(annotation) {
  if (annotation?.type !== "file_citation") return null;
  const c = annotation.file_citation ?? annotation;
  const quote = c.quote ?? c.text ?? "";
  return { file: String(c.filename ?? c.file_id ?? "A document"), quote: String(quote) };
}

// Takes one chunk of a stream into answer: {text, sources, finish, usage}; throws what it tells of.
export function take(answer, chunk) {
  if (chunk.error) throw new Error(chunk.error.message ?? "The answer broke off");
  const choice = chunk.choices?.[0], said = choice?.delta ?? choice?.message ?? {};
  answer.text += said.content ?? choice?.text ?? "";
  answer.sources.push(...(said.annotations ?? []).map(source).filter(s => s));
  answer.finish = choice?.finish_reason ?? answer.finish;
  answer.usage = chunk.usage ?? answer.usage;
}

const row = line => line.trim().replace(/^\||\|$/g, "").split("|").map(cell => cell.trim());

// Text in the manner of Markdown as blocks: {kind: "p" | "h" | "quote", text}, {kind: "code", text,
// language}, {kind: "list", ordered, items: [{text, depth, number}]}, {kind: "table", rows}.
export function blocks(text) {
  const out = [];
  let fence = null, open = null; // the block that the next line may go on with
  const begin = block => out.push(open = block);
  for (const line of text.split("\n")) {
    const of = line.match(/^\s*(`{3,}|~{3,})\s*([\w+#.-]*)\s*$/);
    if (fence) {
      if (of && !of[2] && of[1].startsWith(fence)) fence = open = null;
      else open.text += (open.begun ? "\n" : "") + line, open.begun = true;
      continue;
    }
    const head = line.match(/^#{1,6}\s+(.*)$/), quote = line.match(/^>\s?(.*)$/);
    const item = line.match(/^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/);
    if (of) {
      fence = of[1];
      begin({ kind: "code", language: of[2], text: "" });
    } else if (!line.trim()) {
      open = open?.kind === "list" ? open : null;
      if (open) open.apart = true;
    } else if (head) {
      begin({ kind: "h", text: head[1] });
      open = null;
    } else if (item) {
      const ordered = item[2].length > 1, depth = Math.min(item[1].length >> 1, 3);
      if (open?.kind !== "list" || (!depth && open.ordered !== ordered)) begin({ kind: "list", ordered, items: [] });
      open.items.push({ text: item[3], depth, number: ordered ? parseInt(item[2], 10) : 0 });
      open.apart = false;
    } else if (/^\s*\|.*\|\s*$/.test(line)) {
      if (open?.kind !== "table") begin({ kind: "table", rows: [] });
      if (!/^[\s|:-]+$/.test(line)) open.rows.push(row(line));
    } else if (quote) {
      if (open?.kind === "quote") open.text += "\n" + quote[1];
      else begin({ kind: "quote", text: quote[1] });
    } else if (open?.kind === "list" && (!open.apart || /^\s/.test(line))) {
      open.items.at(-1).text += "\n" + line.trim();
    } else if (open?.kind === "p") {
      open.text += "\n" + line;
    } else {
      begin({ kind: "p", text: line });
    }
  }
  return out;
}

// A line's parts: [kind, text], of the kinds "", "code", "strong" and "em".
export function inlines(text) {
  const out = [], mark = /(`+)([^`]|[^`][^]*?[^`])\1(?!`)|\*\*(?=\S)([^]*?\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*]*[^\s*])\*(?![\w*])/g;
  let at = 0;
  if (text.length > 8000) return [["", text]]; // what is so long is no prose, and would take long
  for (const m of text.matchAll(mark)) {
    if (m.index > at) out.push(["", text.slice(at, m.index)]);
    out.push(m[1] ? ["code", m[2]] : m[3] ? ["strong", m[3]] : ["em", m[4]]);
    at = m.index + m[0].length;
  }
  if (at < text.length) out.push(["", text.slice(at)]);
  return out;
}
