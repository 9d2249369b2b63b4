// The page as a whole: the key, the tabs, the stream of events, language and theme.
import { call, follow, key, Refused } from "./api.js";
import * as check from "./check.js";
import { $, write } from "./dom.js";
import * as form from "./form.js";
import * as list from "./list.js";
import * as log from "./log.js";
import * as master from "./master.js";
import { speak, spoken, t } from "./words.js";

/** Time between two looks at the master's own figures, in ms. */
const LOOK = 10000;
const OWN = "********";
const TABS = ["instances", "master", "bans"];

let end = null;
let state = "connecting";

function linked(name) {
  state = name;
  $("link").className = name;
  write($("link").lastElementChild, end ? t(name) : "");
}

function enter(fault = "") {
  end?.();
  end = null;
  linked("connecting");
  list.clear();
  for (const id of ["edit", "log", "ask"]) $(id).close();
  for (const id of ["main", "tabs", "leave"]) $(id).hidden = true;
  $("enter").hidden = false;
  write($("enter-fault"), fault);
  $("key").value = "";
  $("key").focus();
}

function heard(event) {
  const record = event.instance;
  if (!record || record.id === OWN) return;
  if (event.type === "delete") list.drop(record.id);
  else if (event.type === "log") log.said(record.id, event.logs);
  else list.put(record);
}

async function fetchAll() {
  const records = await call("GET", "v1/instances");
  list.replace(records.filter((record) => record.id !== OWN));
  await Promise.all([master.load(), master.bans()]);
}

function begin() {
  $("enter").hidden = true;
  for (const id of ["main", "tabs", "leave"]) $(id).hidden = false;
  tab(location.hash.slice(1));
  end = follow({
    heard,
    // Events tell only of what is there: what has gone meanwhile is known by the list.
    opened: () => { linked("live"); fetchAll().catch(() => {}); },
    lost: () => linked("lost"),
    refused: () => { key.forget(); enter(t("wrongKey")); },
  });
  linked("connecting");
}

async function open(event) {
  event.preventDefault();
  key.set($("key").value.trim());
  try {
    await call("GET", "v1/info");
    begin();
    $("main").focus();
  } catch (error) {
    key.forget();
    write($("enter-fault"), error instanceof Refused ? t("wrongKey") : t("silent"));
    $("key").select();
  }
}

function tab(name) {
  const chosen = TABS.includes(name) && !$(`tab-${name}`).hidden ? name : TABS[0];
  for (const other of TABS) {
    $(other).hidden = other !== chosen;
    $(`tab-${other}`).setAttribute("aria-selected", String(other === chosen));
    $(`tab-${other}`).tabIndex = other === chosen ? 0 : -1;
  }
  if (chosen === "master") master.load().then(master.look).catch(() => {});
  if (chosen === "bans") master.bans().catch(() => {});
}

function walk(event) {
  const there = TABS.filter((name) => !$(`tab-${name}`).hidden);
  const at = there.indexOf(event.target.id.slice(4));
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || at < 0) return;
  event.preventDefault();
  const next = there[(at + step + there.length) % there.length];
  location.hash = next;
  $(`tab-${next}`).focus();
}

function translate() {
  document.documentElement.lang = spoken() === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-t]")) write(node, t(node.dataset.t));
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  linked(state);
  list.again();
  master.show();
  if (!$("master").hidden && end) { master.look(); check.again(); }
}

const keep = {
  get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* not remembered */ } },
};

function paint(theme) {
  $("theme").value = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function start() {
  for (const part of [form, log, list, master]) part.prepare();
  speak(keep.get("nodepass-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  $("language").value = spoken();
  paint(keep.get("nodepass-theme") ?? "auto");
  $("language").addEventListener("change", (event) => { speak(event.target.value); keep.set("nodepass-language", spoken()); translate(); });
  $("theme").addEventListener("change", (event) => { paint(event.target.value); keep.set("nodepass-theme", event.target.value); });
  $("enter").addEventListener("submit", open);
  $("leave").addEventListener("click", () => { key.forget(); enter(); });
  $("tabs").addEventListener("click", (event) => { if (event.target.role === "tab") location.hash = event.target.id.slice(4); });
  $("tabs").addEventListener("keydown", walk);
  addEventListener("hashchange", () => { if (end && location.hash !== "#main") tab(location.hash.slice(1)); });
  document.addEventListener("click", (event) => { if (event.target.closest?.("[data-close]")) event.target.closest("dialog").close(); });
  setInterval(() => { if (end && state === "live" && !document.hidden) master.load().catch(() => {}); }, LOOK);
  translate();
  if (key.get()) begin();
  else enter();
}

start();
