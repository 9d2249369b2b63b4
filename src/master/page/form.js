// The form of an instance. Its parameters are those that the program itself names; the URL follows the fields, and the
// fields follow the URL.
import { call } from "./api.js";
import { $, make, note, write } from "./dom.js";
import { meaning, t } from "./words.js";

let table = null;
/** The instance that is changed; null for a new one. */
let record = null;
/** Of the URL, what the table has no row for: kept as it is. */
let others = [];

const coded = (text) => encodeURIComponent(text).replace(/%(2C|3A|2F|5B|5D|2A|40)/g, decodeURIComponent);
function plain(text) {
  try { return decodeURIComponent(text.replaceAll("+", "%20")); } catch { return text; }
}

/** The parts of a URL; null if it is none. */
export function parse(url) {
  const found = /^(server|client):\/\/(?:([^/?]*)@)?([^/?@]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(url.trim());
  if (!found) return null;
  const [, role, key, address, targets, query] = found;
  const pairs = (query ?? "").split("&").filter(Boolean).map((pair) => {
    const at = pair.indexOf("=");
    return at < 0 ? [pair, ""] : [pair.slice(0, at), plain(pair.slice(at + 1))];
  });
  let name = key ?? "";
  try { name = decodeURIComponent(name); } catch { /* as it is */ }
  return { role, key: name, address, targets: targets ?? "", pairs };
}

export function compose({ role, key, address, targets, pairs }) {
  const user = key ? `${encodeURIComponent(key)}@` : "";
  const query = pairs.map(([name, value]) => `${name}=${coded(value)}`).join("&");
  return `${role}://${user}${address}/${targets}${query ? `?${query}` : ""}`;
}

/** Whether nothing but the words of `choices` is taken. */
const isClosed = (row) => row.choices.length > 0 && row.values.split(/, | or /).length === row.choices.length;

function field(row) {
  const id = `p-${row.name}`;
  const about = `${id}-about`;
  let input;
  if (isClosed(row)) {
    const unset = row.default == null ? "–" : `${t("unset")} (${row.default})`;
    input = make("select", { id, "aria-describedby": about }, make("option", { value: "" }, unset), ...row.choices.map((word) => make("option", { value: word }, word)));
  } else {
    input = make("input", { id, "aria-describedby": about, placeholder: row.default ?? "", autocomplete: "off", spellcheck: "false", list: row.choices.length ? `${id}-words` : null });
  }
  const words = isClosed(row) || !row.choices.length ? [] : [make("datalist", { id: `${id}-words` }, ...row.choices.map((value) => make("option", { value })))];
  const values = isClosed(row) ? "" : `; ${t("accepts", row.values)}`;
  return make("label", { "data-parameter": row.name }, make("span", {}, make("code", {}, row.name)), input, ...words, make("small", { id: about }, `${meaning(row)}${values}`));
}

const rows = (role) => table.filter((row) => row.roles.includes(role));

function fill(parts) {
  $("f-role").value = parts.role;
  $("f-key").value = parts.key;
  $("f-address").value = parts.address;
  $("f-targets").value = parts.targets;
  const known = new Map();
  others = [];
  for (const pair of parts.pairs) {
    if (rows(parts.role).some((row) => row.name === pair[0])) known.set(...pair);
    else others.push(pair);
  }
  const list = rows(parts.role).map((row) => {
    const label = field(row);
    const input = label.querySelector("input, select");
    const value = known.get(row.name) ?? "";
    if (input.tagName === "SELECT" && value && !row.choices.includes(value)) input.append(make("option", { value }, value));
    input.value = value;
    label.classList.toggle("set", value !== "");
    return label;
  });
  $("f-parameters").replaceChildren(...list);
}

function parts() {
  const role = $("f-role").value;
  const pairs = [...$("f-parameters").children].map((label) => {
    const value = label.querySelector("input, select").value.trim();
    label.classList.toggle("set", value !== "");
    return [label.dataset.parameter, value];
  });
  return { role, key: $("f-key").value, address: $("f-address").value.trim(), targets: $("f-targets").value.trim(), pairs: [...pairs.filter(([, value]) => value !== ""), ...others] };
}

function follow() {
  $("f-url").value = compose(parts());
  write($("edit-fault"), "");
}

/** Opens the form for an instance, or for a new one. */
export async function edit(instance) {
  try {
    table ??= (await call("GET", "v1/parameters")).parameters;
  } catch (error) {
    note(error.message, true);
    return;
  }
  record = instance;
  write($("edit-title"), instance ? t("editTitle", instance.alias || instance.id) : t("newTitle"));
  write($("edit-save"), instance ? t("save") : t("create"));
  write($("edit-fault"), "");
  $("f-alias").value = instance?.alias ?? "";
  fill(parse(instance?.url ?? "") ?? { role: "server", key: "", address: "", targets: "", pairs: [] });
  if (instance) $("f-url").value = instance.url;
  else follow();
  $("edit").showModal();
  $("edit").scrollTop = 0;
  $("f-role").focus();
}

async function save(event) {
  event.preventDefault();
  const url = $("f-url").value.trim();
  const read = parse(url);
  if (!read || !read.address) {
    write($("edit-fault"), t(read ? "needsAddress" : "badUrl"));
    return;
  }
  const alias = $("f-alias").value.trim();
  $("edit-save").disabled = true;
  try {
    if (!record) {
      const made = await call("POST", "v1/instances", { alias, url });
      note(t("created", made.alias || made.id));
    } else {
      const path = `v1/instances/${record.id}`;
      if (alias && alias !== record.alias) await call("PATCH", path, { alias });
      if (url !== record.url) await call("PUT", path, { url });
      note(t("saved"));
    }
    $("edit").close();
  } catch (error) {
    write($("edit-fault"), error.message);
  } finally {
    $("edit-save").disabled = false;
  }
}

export function prepare() {
  $("edit-form").addEventListener("submit", save);
  $("edit-form").addEventListener("input", (event) => {
    if (event.target.id === "f-url") {
      const read = parse($("f-url").value);
      write($("edit-fault"), read ? "" : t("badUrl"));
      if (read) fill(read);
    } else if (event.target.id === "f-role") {
      fill(parts());
      follow();
    } else if (event.target.id !== "f-alias") {
      follow();
    }
  });
}
