// The log of one instance: what there was, then line by line as it comes.
import { call } from "./api.js";
import { $, make, note, write } from "./dom.js";
import { t } from "./words.js";

/** Most lines that are kept. */
const MAX_LINES = 2000;
const LEVELS = { DEBUG: 0, INFO: 1, EVENT: 1, WARN: 2, ERROR: 3 };

let id = null;
let lines = [];
/** Lines that came during the pause; null if there is none. */
let held = null;

export const uncoloured = (line) => line.replace(/\x1b\[[0-9;]*m/g, "");

export function level(line) {
  const word = /(?:^\S+ \S+ +|"level":")(DEBUG|INFO|EVENT|WARN|ERROR)/i.exec(line)?.[1];
  return LEVELS[word?.toUpperCase()] ?? 1;
}

function fits(line) {
  return level(line) >= Number($("log-level").value) && line.toLowerCase().includes($("log-filter").value.toLowerCase());
}

const shown = (line) => make("li", { class: `l${level(line)}` }, line);

function show() {
  $("log-lines").replaceChildren(...lines.filter(fits).map(shown));
  $("log-lines").scrollTop = $("log-lines").scrollHeight;
  button();
}

function button() {
  write($("log-pause"), held ? t("resume", held.length) : t("pause"));
  $("log-pause").setAttribute("aria-pressed", String(held !== null));
}

/** A line of an instance. */
export function said(of, text) {
  if (of !== id) return;
  const line = uncoloured(text).trimEnd();
  if (held) {
    held.push(line);
    held = held.slice(-MAX_LINES);
    button();
    return;
  }
  lines.push(line);
  const list = $("log-lines");
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  if (fits(line)) list.append(shown(line));
  if (lines.length > MAX_LINES) {
    lines.shift();
    while (list.childElementCount > MAX_LINES) list.firstChild.remove();
  }
  if (atEnd) list.scrollTop = list.scrollHeight;
}

export async function open(instance) {
  [id, lines, held] = [instance.id, [], []];
  write($("log-title"), t("logTitle", instance.alias || instance.id));
  $("log-filter").value = "";
  $("log-level").value = "0";
  show();
  $("log").showModal();
  $("log-lines").focus();
  let there = [];
  try {
    there = (await call("GET", `v1/instances/${instance.id}/logs`)).map((line) => uncoloured(line).trimEnd());
  } catch (error) {
    note(error.message, true);
  }
  if (id !== instance.id) return;
  // What came meanwhile may be in the answer already.
  const fresh = held.filter((line) => !there.includes(line));
  [lines, held] = [[...there, ...fresh], null];
  show();
}

export function prepare() {
  button();
  $("log").addEventListener("close", () => { id = null; });
  $("log-filter").addEventListener("input", show);
  $("log-level").addEventListener("input", show);
  $("log-pause").addEventListener("click", () => {
    if (held) {
      lines = [...lines, ...held].slice(-MAX_LINES);
      held = null;
      show();
    } else {
      held = [];
      button();
    }
  });
}
