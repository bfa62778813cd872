// Pieces that several views share: badges, dialogs, and what a person can do with an alert or a device.

import { h, fill, setText } from "./dom.js";
import { link, ownName, setOwnName } from "./link.js";
import { isLatched, latchedOf } from "./urgency.js";
import { MARKS, kindName } from "./words.js";

const LENGTHS = /** @type {[string, number][]} */ ([
  ["10 minutes", 600],
  ["30 minutes", 1800],
  ["1 hour", 3600],
  ["4 hours", 14400],
  ["12 hours", 43200],
  ["24 hours", 86400],
]);

/**
 * The badge of a priority.
 * @param {string} severity
 * @param {{isQuiet?: boolean, flashes?: boolean}} [look]
 */
export function badge(severity, look = {}) {
  const known = severity in MARKS ? severity : "medium";
  return h(
    "span",
    { class: "badge", "data-severity": known, "data-quiet": look.isQuiet, "data-flash": look.flashes },
    `${MARKS[known]} ${known.toUpperCase()}`,
  );
}

/**
 * Tell the person something for a few seconds.
 * @param {string} text
 */
export function toast(text) {
  document.querySelector(".toast")?.remove();
  const element = h("div", { class: "toast panel", role: "status" }, text);
  document.body.append(element);
  setTimeout(() => element.remove(), 6000);
}

/**
 * Do something for a person, and tell them what came of it. Who does it stands in the record: where nobody logs in, the
 * first time asks for a name.
 * @param {string} verb
 * @param {...Record<string, unknown>} fields Of each request.
 */
export async function act(verb, ...fields) {
  if (needsName() && !ownName()) {
    openForm("Who are you?", [h("p", {}, "What people do with alerts is recorded with their names.")], "Go on", () =>
      sendAll(verb, fields),
    );
    return;
  }
  try {
    await sendAll(verb, fields);
  } catch (error) {
    toast(messageOf(error));
  }
}

/**
 * Ask the monitor something, and show its answer; fails with the reason in words.
 * @param {string} verb
 * @param {Record<string, unknown>} fields
 */
export async function send(verb, fields) {
  toast(await link.request(verb, fields));
}

/**
 * @param {string} verb
 * @param {Record<string, unknown>[]} fields
 */
async function sendAll(verb, fields) {
  await Promise.all(fields.map((one) => send(verb, one)));
}

function needsName() {
  return link.session !== null && !link.session.login;
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** What is wrong with one field of a form; it is shown there. */
export class FieldError extends Error {
  /**
   * @param {string} field
   * @param {string} message
   */
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/**
 * Show what is wrong with a form, at the field that is to be mended if it is known; null: nothing any more.
 * @param {HTMLFormElement} form
 * @param {HTMLElement} place
 * @param {unknown} error
 */
function showError(form, place, error) {
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
  setText(place, error === null ? "" : messageOf(error));
  const field = error instanceof FieldError ? form.elements.namedItem(error.field) : null;
  if (!(field instanceof HTMLElement)) return;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-errormessage", place.id);
  (field.closest("label") ?? field).after(place);
  field.focus();
}

/**
 * Open a dialog with a form. It closes once what it is for is done; else it says why not.
 * @param {string} title
 * @param {Node[]} fields
 * @param {string} action
 * @param {(fields: FormData) => Promise<void>} perform
 */
export function openForm(title, fields, action, perform) {
  const error = h("p", { class: "error", role: "alert", id: "form-error" });
  const asksName = needsName();
  const form = h(
    "form",
    { method: "dialog" },
    h("h1", { id: "dialog-title" }, title),
    ...fields,
    asksName &&
      h(
        "label",
        {},
        "Your name, for the record",
        h("input", { name: "by", value: ownName(), required: true, maxlength: 56 }),
      ),
    error,
    h(
      "div",
      { class: "bar" },
      h("button", { class: "primary" }, action),
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
    ),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    if (asksName) setOwnName(String(given.get("by") ?? "").trim());
    showError(form, error, null);
    try {
      await perform(given);
      dialog.close();
    } catch (reason) {
      showError(form, error, reason);
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/**
 * Silence a device, or one kind of its alerts.
 * @param {string} device
 * @param {string | null} kind
 */
export function openSilence(device, kind) {
  const which = h(
    "select",
    { name: "kind" },
    kind && h("option", { value: kind }, `only ${kindName(kind).toLowerCase()}`),
    h("option", { value: "" }, "all alerts of this device"),
  );
  const length = h("select", { name: "for_s" }, ...LENGTHS.map(([text, value]) => h("option", { value }, text)));
  openForm(
    `Silence ${link.rows.get(device)?.name || device}`,
    [
      h("p", {}, "Alerts go on and are kept; they make no sound and do not come to the top."),
      h("label", {}, "What", which),
      h("label", {}, "How long", length),
      h("label", {}, "Reason", h("input", { name: "reason", required: true, maxlength: 200 })),
    ],
    "Silence",
    (given) =>
      send("silence", {
        device,
        kind: given.get("kind") || null,
        for_s: Number(given.get("for_s")),
        reason: given.get("reason"),
      }),
  );
}

/** @param {string} device */
export function openRename(device) {
  openForm(
    `Name of ${device}`,
    [h("label", {}, "Name", h("input", { name: "name", maxlength: 64, value: link.rows.get(device)?.name ?? "" }))],
    "Save",
    (given) => send("rename", { device, name: String(given.get("name")).trim() || null }),
  );
}

/** @param {Episode} alert */
export function openComment(alert) {
  openForm(
    "Comment",
    [h("label", {}, "Comment", h("textarea", { name: "text", rows: 3, required: true, maxlength: 500 }))],
    "Save",
    (given) => send("comment", { device: alert.device, episode: alert.episode, text: given.get("text") }),
  );
}

/**
 * What a person can do with an alert.
 * @param {Episode} alert
 */
export function answers(alert) {
  const { device, episode } = alert;
  const isOff = !link.mayAnswer;
  const judge = (/** @type {boolean} */ right) => act("judge", { device, episode, right });
  const alike = latchedOf(device).filter((one) => one.kind === alert.kind && one.episode !== episode);
  const all = isLatched(alert) ? [alert, ...alike] : [alert];
  const acknowledge = () => act("acknowledge", ...all.map((one) => ({ device, episode: one.episode })));
  const element = h("div", { class: "bar stretch" });
  fill(element, [
    !alert.acknowledged_by &&
      h(
        "button",
        { class: "primary", disabled: isOff, onclick: acknowledge },
        all.length > 1 ? `Acknowledge all ${all.length}` : "Acknowledge",
      ),
    h("button", { disabled: isOff, onclick: () => openSilence(device, alert.kind) }, "Silence …"),
    h("button", { disabled: isOff, onclick: () => openComment(alert) }, "Comment …"),
    h("span", { class: "dim" }, "Was this right?"),
    h("button", { disabled: isOff, "aria-pressed": alert.right === true, onclick: () => judge(true) }, "Yes"),
    h("button", { disabled: isOff, "aria-pressed": alert.right === false, onclick: () => judge(false) }, "No"),
  ]);
  return element;
}
