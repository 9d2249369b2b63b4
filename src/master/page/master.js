// The master itself: what it is, its settings, what is wrong, export and import, bans.
import { call, key, unsaved, Refused } from "./api.js";
import * as check from "./check.js";
import { $, ask, bytes, copy, duration, make, note, write } from "./dom.js";
import { level, uncoloured } from "./log.js";
import { records } from "./list.js";
import { t } from "./words.js";

const LEVELS = ["debug", "info", "warn", "error", "event", "none"];
const OWN = "********";
let info = null;

async function trying(work) {
  try {
    return await work();
  } catch (error) {
    note(error instanceof Refused ? error.message : t("silent"), true);
    return null;
  }
}

export function show() {
  const title = info ? [info.alias || info.name, info.ver].filter(Boolean).join(" · ") : "";
  write($("name"), title);
  document.title = info?.alias ? `${info.alias} · NodePass` : "NodePass";
  const why = info?.unsaved ?? unsaved;
  $("unsaved").hidden = !why;
  write($("unsaved"), why ? t("unsaved", why) : "");
  if (!info) return;
  const gauge = (used, total) => (total ? t("of", bytes(used), bytes(total)) : "–");
  const rows = [
    ["version", info.ver], ["system", `${info.os} ${info.arch}`], ["host", info.name], ["id", info.mid], ["uptime", duration(info.uptime)],
    ["sysup", info.sysup ? duration(info.sysup) : "–"], ["cpu", t("cores", info.cpu < 0 ? "–" : `${info.cpu} %`, info.noc)],
    ["memory", gauge(info.mem_used, info.mem_total)], ["swap", gauge(info.swap_used, info.swap_total)],
    ["net", `↓ ${bytes(info.netrx)} ↑ ${bytes(info.nettx)}`], ["disk", `↓ ${bytes(info.diskr)} ↑ ${bytes(info.diskw)}`],
    ["tls", [t(`tls${info.tls}`), info.crt].filter(Boolean).join(": ")],
  ];
  $("info").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, t(name)), make("dd", {}, value)]));
  if (document.activeElement !== $("master-alias")) $("master-alias").value = info.alias;
  $("master-level").value = info.log;
  write($("check-command"), `nodepass check --master ${location.origin}${location.pathname.replace(/\/$/, "")}`);
}

export async function load() {
  const said = await call("GET", "v1/info");
  info = said;
  show();
}

/** What the API tells that is wrong: states, the disk, the connection, and the last warning of each instance. */
export async function look() {
  const found = [];
  if (info?.unsaved) found.push(["bad", t("unsaved", info.unsaved)]);
  if (location.protocol === "http:" && !/^(localhost|127\.|\[::1\])/.test(location.hostname)) found.push(["warn", t("clear")]);
  for (const record of records()) {
    if (record.status === "stopped") continue;
    let last = null;
    try {
      const lines = (await call("GET", `v1/instances/${record.id}/logs`)).map(uncoloured);
      last = lines.findLast((line) => level(line) >= 2) ?? null;
    } catch { /* it has gone meanwhile */ }
    const name = record.alias || record.id;
    if (record.status === "error") found.push(["bad", t("inError", name, last ?? t("noLine"))]);
    else if (last) found.push(["warn", t("warned", name, last)]);
  }
  if (!found.length) found.push(["", t("fine")]);
  $("findings").replaceChildren(...found.map(([kind, text]) => make("li", { class: kind }, text)));
}

async function newKey() {
  if (!await ask(t("askKey"), t("newKey"))) return;
  const made = await trying(() => call("PATCH", `v1/instances/${OWN}`, { action: "restart" }));
  if (!made) return;
  key.set(made.url);
  await ask(t("newKeyIs"), t("ok"), made.url);
}

async function save() {
  const text = await trying(() => call("GET", "v1/export"));
  if (!text) return;
  const url = URL.createObjectURL(new Blob([`${JSON.stringify(text, null, 1)}\n`], { type: "application/json" }));
  make("a", { href: url, download: "nodepass-instances.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function bring(event) {
  const [file] = event.target.files;
  if (!file) return;
  const text = await file.text();
  event.target.value = "";
  const said = await trying(() => call("POST", "v1/import", text));
  if (!said) return;
  note(t("importedNote", said.imported.length, said.skipped.length));
  $("imported").replaceChildren(...said.skipped.map((one) => make("li", { class: "warn" }, `${one.id || `#${one.index + 1}`}: ${one.reason}`)));
}

/** The bans, if this master tells of them. */
export async function bans() {
  let said = null;
  try {
    said = await call("GET", "v1/bans");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
  const list = Array.isArray(said?.bans) ? said.bans.map((ban) => (typeof ban === "object" ? ban : { source: ban })) : null;
  $("tab-bans").hidden = !list;
  if (!list) return;
  const columns = [...new Set(list.flatMap(Object.keys))];
  $("banned").tHead.replaceChildren(make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)), make("th", {}, "")));
  $("banned").tBodies[0].replaceChildren(...list.map((ban) => make("tr", {}, ...columns.map((name) => make("td", {}, String(ban[name] ?? ""))), make("td", { class: "acts" }, lift(ban)))));
  $("banned").hidden = !list.length;
  $("no-bans").hidden = !!list.length;
}

function lift(ban) {
  const source = String(ban.source ?? ban.address ?? "");
  const run = () => trying(async () => {
    const query = new URLSearchParams({ source, ...(ban.instance ? { instance: ban.instance } : {}) });
    await call("DELETE", `v1/bans?${query}`);
    note(t("unbanned", source));
    await bans();
  });
  return make("button", { type: "button", onclick: run, "aria-label": `${t("unban")}: ${source}` }, t("unban"));
}

export function prepare() {
  $("master-level").replaceChildren(...LEVELS.map((name) => make("option", {}, name)));
  $("master-level").addEventListener("change", (event) => trying(async () => {
    await call("PATCH", `v1/instances/${OWN}`, { log: event.target.value });
    note(t("saved"));
    await load();
  }));
  $("rename").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(async () => {
      info = await call("POST", "v1/info", { alias: $("master-alias").value });
      show();
      note(t("saved"));
    });
  });
  $("try").addEventListener("submit", async (event) => {
    event.preventDefault();
    const target = $("try-target").value.trim();
    write($("tried"), "…");
    const said = await trying(() => call("GET", `v1/tcping?target=${encodeURIComponent(target)}`));
    write($("tried"), !said ? "" : said.connected ? t("reached", target, said.latency) : t("notReached", target, said.error));
  });
  $("new-key").addEventListener("click", newKey);
  $("export").addEventListener("click", save);
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", bring);
  $("look").addEventListener("click", () => trying(async () => { await load(); await look(); }));
  $("check-all").addEventListener("click", () => check.all(records()));
  $("bans-again").addEventListener("click", () => trying(bans));
  document.addEventListener("click", (event) => {
    const from = event.target.closest?.("[data-copy]");
    if (from) copy($(from.dataset.copy).textContent);
  });
}
