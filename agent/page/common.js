// What both pages use: their elements, what the browser keeps for them, the key, and the colours.

export const $ = id => document.getElementById(id);

export function el(tag, options = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name in e) e[name] = value;
    else e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}
export function svg(tag, attributes = {}, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

// The key is kept as long as this tab, all else as long as the browser keeps it.
export const tab = () => sessionStorage, browser = () => localStorage;
export const kept = (store, name) => {
  try { return store().getItem(`llmjob.${name}`); } catch { return null; }
};
export const keep = (store, name, value) => {
  try {
    if (value) store().setItem(`llmjob.${name}`, value);
    else store().removeItem(`llmjob.${name}`);
  } catch { /* full, or not allowed: then it lives as long as the page */ }
};
export const proof = key => key ? { Authorization: `Bearer ${key}` } : {};

// "light", "dark", or "": as the system has it.
export function colour(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

export function status(state, text) {
  if ($("status").title === text) return;
  $("status").dataset.state = state;
  $("status").firstElementChild.textContent = text;
  $("status").title = text;
}
