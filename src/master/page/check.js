// What `check` finds, by instance: the program looks, the page shows.
import { call } from "./api.js";
import { $, make, write } from "./dom.js";
import { spoken, t } from "./words.js";

const KINDS = { fault: "bad", warning: "warn", note: "note", fine: "" };

/** The instances that are shown, in their order: id -> what it is called. */
const shown = new Map();
/** The end of what is being looked at: one at a time, as each is a process of the master's. */
let last = Promise.resolve();
let waiting = 0;

function line(name, text) {
  return text ? [make("small", {}, `${t(name)}: ${text}`)] : [];
}

function item({ level, subject, what, cause, cure }) {
  const text = make("span", {}, make("b", {}, t(`level-${level}`)), ` ${subject}: ${what}`);
  return make("li", { class: KINDS[level] ?? "" }, text, ...line("cause", cause), ...line("cure", cure));
}

function box(id) {
  let there = $("checked").querySelector(`[data-id="${id}"]`);
  if (!there) {
    there = make("details", { "data-id": id }, make("summary"), make("ul", { class: "findings" }));
    $("checked").append(there);
  }
  return there;
}

async function look(id) {
  const there = box(id);
  const [summary, list] = there.children;
  write(summary, t("checking", shown.get(id)));
  try {
    const said = await call("GET", `v1/instances/${id}/check?lang=${spoken()}`);
    write(summary, t("counted", shown.get(id), said.faults, said.warnings));
    list.replaceChildren(...said.findings.map(item));
    there.open = said.faults + said.warnings > 0;
  } catch (error) {
    write(summary, shown.get(id));
    list.replaceChildren(make("li", { class: "bad" }, error.message));
    there.open = true;
  }
}

function run(ids) {
  for (const id of ids) {
    waiting += 1;
    last = last.then(() => (shown.has(id) ? look(id) : null)).then(() => {
      waiting -= 1;
      $("check-all").disabled = waiting > 0;
    });
  }
  $("check-all").disabled = waiting > 0;
}

/** Looks at these, and shows no others. */
export function all(records) {
  shown.clear();
  $("checked").replaceChildren();
  for (const record of records) shown.set(record.id, record.alias || record.id);
  run([...shown.keys()]);
}

/** Looks at one, where the others are shown. */
export function one(record) {
  shown.set(record.id, record.alias || record.id);
  run([record.id]);
  location.hash = "master";
}

/** What is shown, in the language that is spoken now. */
export function again() {
  run([...shown.keys()]);
}
