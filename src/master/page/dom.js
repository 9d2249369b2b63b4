// Small tools: elements, whose text is only ever text; questions; notes; figures in words.
import { t } from "./words.js";

export const $ = (id) => document.getElementById(id);

/** How long a note stays, in ms. */
const NOTE = 6000;

/** An element with attributes and children; a child that is a text stays one. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** The text of a node, written only where it is another: readers of screens are not told twice. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Tells something for a while. */
export function note(text, bad = false) {
  const line = make("p", bad ? { class: "bad" } : {}, text);
  $("notes").append(line);
  setTimeout(() => line.remove(), NOTE);
}

/** Asks; true if the answer is yes. With a value it tells that, and there is nothing to choose. */
export function ask(text, yes, value) {
  const dialog = $("ask");
  write($("ask-text"), text);
  write($("ask-yes"), yes);
  $("ask-yes").classList.toggle("danger", value === undefined);
  $("ask-no").hidden = value !== undefined;
  $("ask-value-line").hidden = value === undefined;
  write($("ask-value"), value ?? "");
  return new Promise((answer) => {
    const said = (what) => () => { dialog.close(what); };
    $("ask-yes").onclick = said("yes");
    $("ask-no").onclick = said("no");
    dialog.onclose = () => { write($("ask-value"), ""); answer(dialog.returnValue === "yes"); };
    dialog.returnValue = "";
    dialog.showModal();
    (value === undefined ? $("ask-no") : $("ask-yes")).focus();
  });
}

export async function copy(text) {
  // Only pages over TLS and of the own machine may use the clipboard's interface.
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { class: "hidden" });
    field.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  note(t("copied"));
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) { n /= 1000; at += 1; }
  return `${at === 0 || n >= 99.5 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}

export const perSecond = (n) => `${bytes(n)}/s`;

export function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = Math.max(0, parts.findIndex(([size]) => seconds >= size));
  return parts.slice(seconds < 1 ? 3 : at, (seconds < 1 ? 3 : at) + 2).map(([size, unit], i) => {
    const whole = Math.floor(seconds / size);
    return `${i === 0 ? whole : Math.floor((seconds % parts[at][0]) / size)} ${unit}`;
  }).join(" ");
}
