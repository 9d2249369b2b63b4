// The table of instances: a row each, changed in place, so that focus stays where it is.
import { call } from "./api.js";
import * as check from "./check.js";
import { $, ask, bytes, copy, make, note, perSecond, write } from "./dom.js";
import { edit, parse } from "./form.js";
import * as log from "./log.js";
import { t } from "./words.js";

/** Rates that a sparkline shows. */
const SAMPLES = 60;
/** Least time between two rates, in ms: events that follow a call say nothing of a rate. */
const MIN_SPAN = 700;
/** Without news for this long, in ms, nothing flows. */
const QUIET = 15000;
const SVG = "http://www.w3.org/2000/svg";

/** id -> { record, row, at, seen, down, up, downs, ups } */
const entries = new Map();

export const records = () => [...entries.values()].map((entry) => entry.record);
const named = (record) => record.alias || record.id;
const users = (record) => record.tcps + record.udps;

function sample(entry, record, now) {
  // Received from users or targets and sent to them.
  const seen = [record.tcprx + record.udprx, record.tcptx + record.udptx];
  const span = now - entry.at;
  if (entry.seen && span < MIN_SPAN && record.status === entry.record.status) return;
  const rate = (n) => (entry.seen && seen[n] >= entry.seen[n] ? (seen[n] - entry.seen[n]) * 1000 / Math.max(span, MIN_SPAN) : 0);
  if (entry.seen) push(entry, rate(0), rate(1));
  [entry.seen, entry.at] = [seen, now];
}

function push(entry, down, up) {
  [entry.down, entry.up] = [down, up];
  entry.downs = [...entry.downs, down].slice(-SAMPLES);
  entry.ups = [...entry.ups, up].slice(-SAMPLES);
}

/** A record as the master has it now. */
export function put(record) {
  let entry = entries.get(record.id);
  const now = Date.now();
  if (!entry) {
    entry = { record, at: now, seen: null, down: 0, up: 0, downs: [], ups: [] };
    entry.row = row(record.id);
    entries.set(record.id, entry);
    $("list").tBodies[0].append(entry.row);
  }
  sample(entry, record, now);
  entry.record = record;
  show(entry);
  summary();
}

export function drop(id) {
  entries.get(id)?.row.remove();
  entries.delete(id);
  summary();
}

/** What the master has, and nothing else. */
export function replace(list) {
  const ids = new Set(list.map((record) => record.id));
  for (const id of [...entries.keys()]) if (!ids.has(id)) drop(id);
  list.forEach(put);
  summary();
}

export function clear() {
  replace([]);
}

function polyline(kind) {
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("class", kind);
  return line;
}

function row(id) {
  const act = (name, run, kind) => make("button", { type: "button", "data-act": name, class: kind ?? null, onclick: () => run(entries.get(id)?.record) });
  const chart = document.createElementNS(SVG, "svg");
  chart.setAttribute("viewBox", "0 0 100 28");
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("aria-hidden", "true");
  chart.append(polyline("in"), polyline("out"));
  const menu = make("details", { class: "more" }, make("summary", {}, "⋯"),
    make("div", {}, act("check", check.one), act("restart", restart), act("reset", reset), act("copyUrl", (record) => copy(record.url)), act("remove", remove, "danger")));
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) { menu.open = false; menu.firstChild.focus(); }
  });
  menu.addEventListener("focusout", (event) => { if (!menu.contains(event.relatedTarget)) menu.open = false; });
  menu.lastChild.addEventListener("click", () => { menu.open = false; menu.firstChild.focus(); });
  const flow = make("div", {}, make("span", { class: "down" }), make("br"), make("span", { class: "up" }));
  return make("tr", { "data-id": id },
    make("td", {}, make("div", { class: "who" }, make("i"), make("div", {}, make("b"), make("small")))),
    make("td", { class: "where" }, make("span"), make("small")),
    make("td", { class: "number", "data-word": "users" }), make("td", { class: "number", "data-word": "pool" }), make("td", { class: "number", "data-word": "ping" }),
    make("td", {}, make("div", { class: "flow" }, flow, chart)),
    make("td", { class: "number total", "data-word": "total" }, make("span"), make("small")),
    make("td", { class: "acts" }, act("toggle", toggle), act("logs", log.open), act("edit", edit), menu));
}

function points(values, top) {
  const step = 100 / (SAMPLES - 1);
  const first = SAMPLES - values.length;
  return values.map((value, at) => `${((first + at) * step).toFixed(1)},${(26.5 - 25 * value / top).toFixed(1)}`).join(" ");
}

function show(entry) {
  const { record, row } = entry;
  const find = (selector) => row.querySelector(selector);
  const read = parse(record.url);
  row.className = record.status;
  write(find("b"), named(record));
  write(find(".who small"), [t(record.status), record.type, record.alias ? record.id : ""].filter(Boolean).join(" · "));
  write(find(".where span"), read?.address ?? "");
  write(find(".where small"), read?.targets ? `→ ${read.targets}` : "");
  const cells = row.cells;
  for (const cell of row.querySelectorAll("[data-word]")) cell.dataset.name = t(cell.dataset.word);
  const runs = record.status === "running";
  write(cells[2], runs ? (record.udps ? `${record.tcps} + ${record.udps} udp` : String(record.tcps)) : "–");
  write(cells[3], runs ? String(record.pool) : "–");
  write(cells[4], runs && record.ping ? `${record.ping} ms` : "–");
  write(find(".down"), `↓ ${runs ? perSecond(entry.down) : "–"}`);
  write(find(".up"), `↑ ${runs ? perSecond(entry.up) : "–"}`);
  const top = Math.max(1, ...entry.downs, ...entry.ups);
  find(".in").setAttribute("points", points(entry.downs, top));
  find(".out").setAttribute("points", points(entry.ups, top));
  write(find(".total span"), bytes(record.tcprx + record.udprx + record.tcptx + record.udptx));
  write(find(".total small"), `↓ ${bytes(record.tcprx + record.udprx)} ↑ ${bytes(record.tcptx + record.udptx)}`);
  for (const button of row.querySelectorAll("[data-act]")) {
    const name = button.dataset.act === "toggle" ? (record.status === "stopped" ? "start" : "stop") : button.dataset.act;
    write(button, t(name));
    button.setAttribute("aria-label", `${t(name)}: ${named(record)}`);
  }
  find("summary").setAttribute("aria-label", t("more", named(record)));
  row.hidden = !fits(record, read);
}

function fits(record, read) {
  const wanted = $("find").value.trim().toLowerCase();
  const text = [record.alias, record.id, record.type, record.status, t(record.status), read?.address, read?.targets].join(" ");
  return text.toLowerCase().includes(wanted);
}

function summary() {
  const all = [...entries.values()];
  const sum = (of) => all.reduce((total, entry) => total + of(entry), 0);
  const running = all.filter((entry) => entry.record.status === "running").length;
  write($("sum"), t("sum", running, all.length, sum((entry) => users(entry.record)), perSecond(sum((entry) => entry.down)), perSecond(sum((entry) => entry.up))));
  const seen = all.some((entry) => !entry.row.hidden);
  $("list").hidden = !seen;
  $("none").hidden = seen;
  write($("none"), t(all.length ? "noneFound" : "none"));
}

/** Everything anew, as in another language. */
export function again() {
  for (const entry of entries.values()) show(entry);
  summary();
}

async function act(record, action, done) {
  try {
    await call("PATCH", `v1/instances/${record.id}`, { action });
    note(t(done, named(record)));
  } catch (error) {
    note(error.message, true);
  }
}

async function toggle(record) {
  if (record.status === "stopped") return act(record, "start", "started");
  if (users(record) && !await ask(t("askStop", named(record), users(record)), t("stop"))) return;
  return act(record, "stop", "stopping");
}

async function restart(record) {
  if (users(record) && !await ask(t("askRestart", named(record), users(record)), t("restart"))) return;
  return act(record, "restart", "restarting");
}

async function reset(record) {
  if (await ask(t("askReset", named(record)), t("reset"))) await act(record, "reset", "resetDone");
}

async function remove(record) {
  if (!await ask(t("askDelete", named(record)), t("remove"))) return;
  try {
    await call("DELETE", `v1/instances/${record.id}`);
    note(t("removed", named(record)));
    drop(record.id);
    $("new").focus();
  } catch (error) {
    note(error.message, true);
  }
}

export function prepare() {
  $("new").addEventListener("click", () => edit(null));
  $("find").addEventListener("input", again);
  setInterval(() => {
    const now = Date.now();
    for (const entry of entries.values()) {
      if (now - entry.at > QUIET) {
        entry.at = now;
        push(entry, 0, 0);
        show(entry);
      }
    }
    summary();
  }, QUIET / 3);
}
