// Limits of one device: how they are, how far they can be set, and a form that sets one.

import { h, fill, setText } from "./dom.js";
import { deviceName, link } from "./link.js";
import { FieldError, openForm, send } from "./pieces.js";
import { kindName } from "./words.js";

/** What is most often set for one person, in the words of a ward: kind and parameter, and what it says. */
const COMMON = /** @type {[string, string][]} */ ([
  ["bradycardia.below_bpm", "Heart rate low, below"],
  ["extreme-bradycardia.below_bpm", "Heart rate very low, below"],
  ["tachycardia.above_bpm", "Heart rate high, above"],
  ["extreme-tachycardia.above_bpm", "Heart rate very high, above"],
  ["pause.limit_s", "Pause, longer than"],
  ["asystole.limit_s", "Asystole, no beat for"],
]);
const PARAMETERS = /** @type {Record<string, string>} */ ({
  below_bpm: "below",
  above_bpm: "above",
  limit_s: "longer than",
  beats: "from so many beats on",
  a_minute: "from so many a minute on",
  n: "so many beats ...",
  m: "... of the last",
  odds: "log odds from",
  fall: "ends so much lower",
  clear: "ends this share beyond the limit",
  exit_ratio: "ends below this share of the begin",
  update_s: "told again every",
  refractory_s: "not again for",
});

/** @param {Limit} limit */
export function idOf(limit) {
  return `${limit.kind}.${limit.name}`;
}

/** @param {Limit} limit */
export function labelOf(limit) {
  const common = COMMON.find(([id]) => id === idOf(limit));
  return common ? common[1] : `${kindName(limit.kind)}: ${PARAMETERS[limit.name] ?? limit.name.replaceAll("_", " ")}`;
}

/** @param {Limit} limit */
export function unitOf(limit) {
  if (limit.name.endsWith("_bpm") || limit.name === "a_minute") return "/min";
  if (limit.name.endsWith("_s")) return "s";
  return ["beats", "n", "m"].includes(limit.name) ? "beats" : "";
}

/**
 * A value with its unit.
 * @param {Limit} limit
 * @param {number} value
 */
function withUnit(limit, value) {
  return `${round(value)} ${unitOf(limit)}`.trim();
}

/** @param {number} value */
function round(value) {
  return String(Number(value.toPrecision(4)));
}

/** @param {Limit} limit */
function rangeOf(limit) {
  return `from ${round(limit.low)} to ${withUnit(limit, limit.high)}`;
}

/**
 * The number that somebody wrote for a limit; fails with what is wrong with it.
 * @param {Limit} limit
 * @param {string} text
 */
export function readLimit(limit, text) {
  const range = `${limit.is_whole ? "a whole number" : "a number"} ${rangeOf(limit)}`;
  if (!text.trim()) throw new FieldError("value", `Give ${range}.`);
  if (!/^[+-]?\d+([.,]\d+)?$/.test(text.trim())) {
    throw new FieldError("value", `“${text.trim()}” is no number: expected ${range}.`);
  }
  const value = Number(text.trim().replace(",", "."));
  if (value < limit.low || value > limit.high || (limit.is_whole && !Number.isInteger(value))) {
    throw new FieldError("value", `${text.trim()} cannot be set: expected ${range}.`);
  }
  return value;
}

/**
 * The limits of a device, as a table: those that are most often set, and those that are its own.
 * @param {Limit[]} limits
 */
export function limitsTable(limits) {
  const common = COMMON.map(([id]) => limits.find((limit) => idOf(limit) === id)).filter((one) => one !== undefined);
  const shown = [...common, ...limits.filter((limit) => limit.own !== null && !common.includes(limit))];
  const line = (/** @type {Limit} */ limit) =>
    h(
      "tr",
      {},
      h("td", {}, labelOf(limit)),
      h("td", { class: "number" }, withUnit(limit, limit.own ?? limit.usual)),
      h("td", { class: "dim" }, limit.own === null ? "as all devices" : `own; all: ${withUnit(limit, limit.usual)}`),
    );
  return h("table", {}, h("tbody", {}, ...shown.map(line)));
}

/**
 * Ask for a limit of a device, and have it set.
 * @param {string} device
 * @param {Limit[]} limits
 */
export function openLimit(device, limits) {
  const common = limits.filter((limit) => COMMON.some(([id]) => id === idOf(limit)));
  const options = (/** @type {Limit[]} */ some) =>
    some.map((limit) => h("option", { value: idOf(limit) }, labelOf(limit)));
  const which = h(
    "select",
    { name: "limit" },
    h("optgroup", { label: "Most often set" }, ...options(inOrder(common))),
    h("optgroup", { label: "All others" }, ...options(limits.filter((limit) => !common.includes(limit)))),
  );
  const value = h("input", {
    name: "value",
    inputmode: "decimal",
    autocomplete: "off",
    "aria-describedby": "limit-now",
  });
  const unit = h("span", {});
  const now = h("p", { class: "dim", id: "limit-now" });
  const back = h("input", { type: "checkbox", name: "back" });
  const backText = h("span", {});
  const backLabel = h("label", { class: "inline" }, back, backText);
  const chosen = () => /** @type {Limit} */ (limits.find((limit) => idOf(limit) === which.value));
  const show = () => {
    const limit = chosen();
    setText(unit, `Value${unitOf(limit) && ` (${unitOf(limit)})`}`);
    const whose = limit.own === null ? "as for all devices" : "set for this device";
    setText(now, `Now ${withUnit(limit, limit.own ?? limit.usual)}, ${whose}. It can be set ${rangeOf(limit)}.`);
    setText(backText, `as for all devices: ${withUnit(limit, limit.usual)}`);
    backLabel.hidden = limit.own === null;
    if (backLabel.hidden) back.checked = false;
    value.disabled = back.checked;
  };
  which.addEventListener("change", show);
  back.addEventListener("change", show);
  show();
  openForm(
    `Limit for ${deviceName(device)}`,
    [h("label", {}, "Alert", which), now, h("label", {}, unit, value), backLabel],
    "Set",
    (given) => setLimit(device, chosen(), back.checked ? null : String(given.get("value") ?? "")),
  );
}

/** @param {Limit[]} common */
function inOrder(common) {
  const place = (/** @type {Limit} */ limit) => COMMON.findIndex(([id]) => id === idOf(limit));
  return [...common].sort((a, b) => place(a) - place(b));
}

/**
 * @param {string} device
 * @param {Limit} limit
 * @param {string | null} text Null: as for all devices again.
 */
async function setLimit(device, limit, text) {
  const ask = (/** @type {Record<string, number>} */ values) =>
    send("limits", { device, limits: { [limit.kind]: values } });
  const rest = { ...(link.rows.get(device)?.limits?.[limit.kind] ?? {}) };
  delete rest[limit.name];
  try {
    if (text !== null) await ask({ [limit.name]: readLimit(limit, text) });
    else {
      await ask({}); // of this kind all are as for all devices again ...
      if (Object.keys(rest).length > 0) await ask(rest); // ... but for those
    }
  } catch (error) {
    throw error instanceof FieldError
      ? error
      : new FieldError("value", error instanceof Error ? error.message : String(error));
  }
}

/**
 * Put the limits of a device into an element, with what sets one.
 * @param {HTMLElement} element
 * @param {string} device
 */
export async function showLimits(element, device) {
  const button = h("button", { disabled: true }, "Set a limit …");
  try {
    const limits = /** @type {Limit[]} */ (await link.get(`/api/limits/${encodeURIComponent(device)}`));
    button.disabled = !link.mayAnswer;
    button.addEventListener("click", () => openLimit(device, limits));
    fill(element, [limitsTable(limits), h("div", {}, button)]);
  } catch (error) {
    fill(element, [h("p", { class: "dim" }, error instanceof Error ? error.message : String(error))]);
  }
}
