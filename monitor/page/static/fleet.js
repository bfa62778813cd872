// The fleet: a tile for each device, what needs a person first. Only what is seen is built, subscribed and drawn.

import { h, setText, setAttribute, fill } from "./dom.js";
import { link } from "./link.js";
import { Sweep } from "./sweep.js";
import { badge } from "./pieces.js";
import { UNANSWERED, headline, isSilenced, latchedOf, need } from "./urgency.js";
import { CONNECTIONS, day, percent, rate, span } from "./words.js";

const TILE = { width: 400, height: 104, perSecond: 55, perMv: 20 };
const ROW = { width: Infinity, height: 42, perSecond: 40, perMv: 13 };
const OVERSCAN = 1;
const SORT_MS = 2000;
/** A list does not change its order while somebody points at it. */
const HOLD_MS = 1500;
const PRIORITIES = ["technical", "low", "medium", "high"];
const NO_DEVICE =
  "No device has been heard yet. One appears with its first packet: let yours publish (docs/DEVICE.md), or try “ecgwatch replay”.";

/** @returns {View} */
export function openFleet() {
  const fleet = new Fleet();
  return { element: fleet.element, title: "Fleet", close: () => fleet.close() };
}

/** @type {Map<string, string>} */
const orders = new Map();
const MOST_ORDERS = 20_000;

/**
 * A name as it is sorted: Bed 2 stands before Bed 10.
 * @param {string} name
 */
function inOrder(name) {
  const known = orders.get(name);
  if (known !== undefined) return known;
  if (orders.size >= MOST_ORDERS) orders.clear();
  const order = name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
  orders.set(name, order);
  return order;
}

class Fleet {
  constructor() {
    this.look = localStorage.getItem("look") === "rows" ? ROW : TILE;
    this.query = "";
    /** @type {Row[]} */
    this.sorted = [];
    /** @type {Map<string, Tile>} */
    this.tiles = new Map();
    this.touched_ms = -Infinity;
    this.columns = 1;
    this.list = h("ul", { "aria-label": "Devices" });
    this.scroller = h("div", { class: "fleet", tabindex: "-1" }, this.list);
    this.summary = h("span", { class: "dim", role: "status" });
    this.empty = h("p", { class: "empty" });
    this.element = h("div", { class: "split-fleet" }, this.bar(), this.empty, this.scroller);
    this.scroller.addEventListener("scroll", () => this.schedule(), { passive: true });
    for (const event of ["pointermove", "keydown", "focusin"]) {
      this.list.addEventListener(event, () => (this.touched_ms = performance.now()), { passive: true });
    }
    this.resizing = new ResizeObserver(() => this.layout());
    this.resizing.observe(this.scroller);
    this.ends = [link.on("rows", () => this.onRows()), link.on("alerts", () => this.onAlerts())];
    this.timer = setInterval(() => {
      this.sort();
      for (const tile of this.tiles.values()) tile.update(); // ages go on
    }, SORT_MS);
    this.frame = 0;
    this.isDirty = true;
    this.soon = 0;
    this.setLook(this.look);
    this.sort();
  }

  close() {
    clearInterval(this.timer);
    clearTimeout(this.soon);
    cancelAnimationFrame(this.frame);
    this.resizing.disconnect();
    for (const end of this.ends) end();
    for (const tile of this.tiles.values()) tile.close();
    link.watch(this, []);
  }

  bar() {
    const search = h("input", {
      type: "search",
      "aria-label": "Find a device",
      placeholder: "Find a device",
      oninput: () => {
        this.query = search.value.trim().toLowerCase();
        this.sort(true);
      },
    });
    this.looks = [
      h("button", { onclick: () => this.setLook(TILE) }, "Tiles"),
      h("button", { onclick: () => this.setLook(ROW) }, "Rows"),
    ];
    return h("div", { class: "bar" }, h("h1", {}, "Fleet"), search, ...this.looks, this.summary);
  }

  /** @param {typeof TILE} look */
  setLook(look) {
    this.look = look;
    localStorage.setItem("look", look === ROW ? "rows" : "tiles");
    this.element.className = look === ROW ? "rows stack-fill" : "stack-fill";
    this.element.style.setProperty("--tile-height", `${look.height}px`);
    this.looks?.forEach((button, i) => button.setAttribute("aria-pressed", String((i === 1) === (look === ROW))));
    for (const tile of this.tiles.values()) tile.setLook(look);
    this.layout();
  }

  onRows() {
    this.isDirty = true;
    if (this.sorted.length === 0) this.sort();
    for (const tile of this.tiles.values()) tile.update();
  }

  onAlerts() {
    this.onRows();
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.sort(), 150);
  }

  /** Put what needs a person first; not while somebody points at the list. */
  sort(now = false) {
    if (!now && (!this.isDirty || performance.now() - this.touched_ms < HOLD_MS)) return;
    this.isDirty = false;
    const rows = [...link.rows.values()];
    const found = this.query
      ? rows.filter((row) => `${row.name ?? ""} ${row.id}`.toLowerCase().includes(this.query))
      : rows;
    const keyed = found.map((row) => ({ row, need: need(row), name: inOrder(row.name || row.id) }));
    keyed.sort((a, b) => b.need - a.need || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    this.sorted = keyed.map((one) => one.row);
    this.summarise(rows);
    this.layout();
  }

  /** @param {Row[]} rows */
  summarise(rows) {
    const counts = [0, 0, 0, 0];
    for (const row of rows) {
      const most = need(row);
      if (most >= UNANSWERED) counts[most - UNANSWERED]++;
    }
    const open = counts.map((count, rank) => count && `${count} ${PRIORITIES[rank]}`).filter(Boolean);
    const missing = rows.filter((row) => (row.connection ?? "streaming") !== "streaming").length;
    const words = [`${rows.length} device${rows.length === 1 ? "" : "s"}`];
    words.push(open.length ? `unanswered: ${open.reverse().join(", ")}` : "no unanswered alert");
    if (missing) words.push(`${missing} not sending`);
    setText(this.summary, words.join(" · "));
    this.empty.hidden = this.sorted.length > 0;
    setText(this.empty, this.query ? "No device of that name." : NO_DEVICE);
  }

  schedule() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.layout());
  }

  /** Build what is in view, and move it where it belongs. */
  layout() {
    const { clientWidth, clientHeight, scrollTop } = this.scroller;
    if (clientWidth === 0) return;
    this.columns = Math.max(1, Math.floor(clientWidth / this.look.width));
    const width = clientWidth / this.columns;
    const height = this.look.height;
    const rows = Math.ceil(this.sorted.length / this.columns);
    this.list.style.height = `${rows * height}px`;
    const top = Math.floor(scrollTop / height);
    const bottom = Math.ceil((scrollTop + clientHeight) / height);
    const first = Math.max(0, (top - OVERSCAN) * this.columns);
    const wanted = this.sorted.slice(first, (bottom + OVERSCAN) * this.columns);
    this.place(wanted, first, width, height);
    const seen = this.sorted.slice(top * this.columns, bottom * this.columns).map((row) => row.id);
    link.watch(this, seen);
  }

  /**
   * @param {Row[]} wanted
   * @param {number} first
   * @param {number} width
   * @param {number} height
   */
  place(wanted, first, width, height) {
    const ids = new Set(wanted.map((row) => row.id));
    const spare = [...this.tiles.values()].filter((tile) => !ids.has(tile.id) && !tile.hasFocus());
    for (const tile of spare) this.tiles.delete(tile.id);
    let before = this.list.firstElementChild;
    wanted.forEach((row, i) => {
      let tile = this.tiles.get(row.id);
      if (!tile) {
        tile = spare.pop() ?? new Tile(this.look);
        tile.show(row.id);
        this.tiles.set(row.id, tile);
      }
      const at = first + i;
      tile.move((at % this.columns) * width, Math.floor(at / this.columns) * height, width);
      setAttribute(tile.element, "aria-posinset", String(at + 1));
      setAttribute(tile.element, "aria-setsize", String(this.sorted.length));
      if (tile.element === before) before = before.nextElementSibling;
      else this.list.insertBefore(tile.element, before);
    });
    for (const tile of spare) tile.close();
  }
}

/** A device in the fleet; it can show another one later. */
class Tile {
  /** @param {typeof TILE} look */
  constructor(look) {
    this.id = "";
    this.look = look;
    this.place = "";
    this.name = h("span", { class: "tile-name" });
    this.badge = h("span", { class: "tile-badge" });
    this.what = h("span", { class: "tile-what" });
    this.when = h("span", { class: "tile-when" });
    this.alert = h("span", { class: "tile-alert" }, this.badge, this.what, this.when);
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.rate = h("span", {});
    this.rhythm = h("span", {});
    this.quality = h("span", {});
    this.seen = h("span", {});
    this.link = h(
      "a",
      { class: "tile" },
      h("span", { class: "tile-head" }, this.name, this.alert),
      this.canvas,
      h("span", { class: "tile-rate" }, this.rate, h("small", {}, " /min")),
      h("span", { class: "tile-foot" }, this.rhythm, this.quality, this.seen),
    );
    this.element = h("li", {}, this.link);
    /** @type {Sweep | null} */
    this.sweep = null;
    this.shownAlert = "";
  }

  close() {
    this.sweep?.close();
    this.element.remove();
  }

  hasFocus() {
    return this.element.contains(document.activeElement);
  }

  /** @param {string} id */
  show(id) {
    this.id = id;
    this.shownAlert = "";
    setAttribute(this.link, "href", `#/device/${encodeURIComponent(id)}`);
    const signal = link.signal(id);
    if (this.sweep) this.sweep.show(signal);
    else this.sweep = new Sweep(this.canvas, signal, { ...this.look, fits: true, marks: false });
    this.update();
  }

  /** @param {typeof TILE} look */
  setLook(look) {
    this.look = look;
    if (this.sweep) this.sweep.look = { ...look, fits: true, marks: false };
    this.sweep?.reset();
  }

  /**
   * @param {number} left
   * @param {number} top
   * @param {number} width
   */
  move(left, top, width) {
    const place = `${left} ${top} ${width}`;
    if (place === this.place) return;
    if (width !== Number(this.place.split(" ")[2])) {
      this.element.style.width = `${width}px`;
      this.sweep?.reset();
    }
    this.place = place;
    this.element.style.transform = `translate(${left}px, ${top}px)`;
  }

  update() {
    const row = link.rows.get(this.id);
    if (!row) return;
    const connection = row.connection ?? "streaming";
    const unwatched = link.unwatchedOf(row);
    const isKnown = connection === "streaming" && !unwatched;
    setText(this.name, row.name || row.id);
    setText(this.rate, connection === "streaming" ? rate(row.heart_rate_bpm) : "––");
    setText(this.rhythm, unwatched ? unwatched.what : isKnown ? (row.rhythm ?? "") : CONNECTIONS[connection]);
    setText(this.quality, isKnown && qualityText(row.judged) ? `signal ${qualityText(row.judged)}` : "");
    setText(this.seen, unwatched ? sinceText(unwatched.since_s) : seenText(row));
    this.link.toggleAttribute("data-unwatched", Boolean(unwatched));
    setAttribute(this.link, "data-connection", connection);
    this.updateAlert(row, connection);
  }

  /**
   * @param {Row} row
   * @param {string} connection
   */
  updateAlert(row, connection) {
    const alerts = (row.alerts ?? []).map((id) => link.alerts.get(id)).filter((alert) => alert !== undefined);
    const isAnswered = (/** @type {Episode} */ alert) => Boolean(alert.acknowledged_by) || isSilenced(row, alert);
    const seen = latchedOf(this.id);
    const top = alerts.find((alert) => !isAnswered(alert)) ?? seen[0] ?? alerts[0];
    const isQuiet = top !== undefined && (Boolean(top.ended_s) || isAnswered(top));
    setAttribute(this.link, "data-severity", top && !isQuiet ? top.severity : "");
    this.link.toggleAttribute("data-alert", top !== undefined);
    this.link.toggleAttribute("data-latched", Boolean(top?.ended_s));
    const count = alerts.length + seen.length;
    const more = count > 1 ? ` +${count - 1}` : "";
    const suffix = top && isAnswered(top) ? (top.acknowledged_by ? " (acknowledged)" : " (silenced)") : "";
    const { what, when } = top ? headline(top) : { what: "", when: "" };
    setText(this.what, top ? `${what}${more}${suffix}` : "");
    setText(this.when, when);
    const key = `${top?.severity} ${isQuiet} ${connection}`;
    if (key === this.shownAlert) return;
    this.shownAlert = key;
    const flashes = top?.severity === "high" && !isQuiet;
    fill(this.badge, top ? [badge(top.severity, { isQuiet, flashes })] : []);
  }
}

/**
 * Since when nobody is watched.
 * @param {number | null} since_s
 */
export function sinceText(since_s) {
  return since_s === null ? "for how long is not known" : `since ${day(since_s, link.now_s())}`;
}

/**
 * How much of the signal could be judged.
 * @param {number | null | undefined} judged
 */
export function qualityText(judged) {
  if (judged === null || judged === undefined) return "";
  return judged >= 0.9 ? "good" : judged >= 0.6 ? `fair, ${percent(judged)}` : `poor, ${percent(judged)}`;
}

/**
 * When a device was last heard: the page itself, or the monitor, which says that it streams.
 * @param {Row} row
 */
export function seenText(row) {
  if (row.connection === "lead-off") return "sending";
  if (row.connection === undefined || row.connection === "streaming")
    return row.has_state || row.seen_s ? "live" : "not heard yet";
  return row.seen_s ? `${span(link.now_s() - row.seen_s)} ago` : "not heard yet";
}
