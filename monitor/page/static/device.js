// One device: its live strip on ECG paper, its trends, its beats by class, its alerts, its limits.

import { h, fill, setText, setAttribute } from "./dom.js";
import { deviceName, link } from "./link.js";
import { Sweep } from "./sweep.js";
import { MM, drawChart, drawGrid } from "./paper.js";
import { act, badge, openRename, openSilence } from "./pieces.js";
import { qualityText, seenText, sinceText } from "./fleet.js";
import { alertItem, isListed } from "./alerts.js";
import { byUrgency, headline, isLatched, isOpen } from "./urgency.js";
import { showLimits } from "./limits.js";
import { CONNECTIONS, className, clock, kindName, percent, rate, sentence, span } from "./words.js";

const SPEEDS = [12.5, 25, 50];
const GAINS = [5, 10, 20];
const SPANS = /** @type {[string, number][]} */ ([
  ["10 min", 600],
  ["1 h", 3600],
  ["6 h", 21600],
  ["24 h", 86400],
]);
const TREND_MS = 5000;

/**
 * @param {string} id
 * @returns {View}
 */
export function openDevice(id) {
  const device = new Device(id);
  return { element: device.element, title: deviceName(id), close: () => device.close() };
}

class Device {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.speed = stored("speed", SPEEDS, 25);
    this.gain = stored("gain", GAINS, 10);
    this.span_s = 600;
    /** @type {DeviceDetail | null} */
    this.detail = null;
    this.name = h("h1", {});
    this.under = h("span", { class: "dim" }, id);
    this.rate = h("span", { class: "rate" });
    this.facts = h("div", { class: "facts" });
    this.grid = h("canvas", { "aria-hidden": "true" });
    this.canvas = h("canvas", { role: "img", "aria-label": "Live electrocardiogram with beats by class" });
    this.note = h("span", { class: "note" });
    this.paper = h("div", { class: "paper live" }, this.grid, this.canvas, this.note);
    this.bpm = h("canvas", { class: "chart", role: "img", "aria-label": "Heart rate over time" });
    this.earlier = h("p", { class: "dim" });
    this.rr = h("canvas", { class: "chart", role: "img", "aria-label": "RR intervals of the last ten minutes" });
    this.classes = h("div", {});
    this.alerts = h("div", {});
    this.alarms = h("div", { class: "own-alarms" });
    this.limits = h("div", {});
    this.element = this.build();
    this.sweep = new Sweep(this.canvas, link.signal(id), this.look());
    link.watch(this, [id]);
    this.ends = [link.on("rows", () => this.update()), link.on("alerts", () => this.update())];
    this.resizing = new ResizeObserver(() => this.redraw());
    this.resizing.observe(this.paper);
    this.timer = setInterval(() => this.refresh(), TREND_MS);
    this.update();
    this.refresh();
  }

  close() {
    clearInterval(this.timer);
    this.resizing.disconnect();
    this.sweep.close();
    for (const end of this.ends) end();
    link.watch(this, []);
  }

  build() {
    const isOff = !link.mayAnswer;
    const head = h(
      "div",
      { class: "device-head" },
      h("div", {}, this.name, this.under),
      h("div", {}, this.rate, h("span", { class: "dim" }, " beats/min")),
      this.facts,
      h(
        "div",
        { class: "actions" },
        h("button", { disabled: isOff, onclick: () => openRename(this.id) }, "Name …"),
        h("button", { disabled: isOff, onclick: () => openSilence(this.id, null) }, "Silence …"),
      ),
    );
    return h(
      "div",
      { class: "page" },
      head,
      this.alarms,
      this.paper,
      h(
        "div",
        { class: "bar" },
        this.choice("Speed", SPEEDS, "speed", "mm/s"),
        this.choice("Gain", GAINS, "gain", "mm/mV"),
        legend(),
      ),
      h(
        "div",
        { class: "columns" },
        this.trends(),
        h("section", { class: "panel stack" }, h("h2", {}, "Alerts of this device"), this.alerts),
      ),
      h(
        "div",
        { class: "columns" },
        h("section", { class: "panel stack" }, h("h2", {}, "Beats by class"), this.classes),
        h("section", { class: "panel stack" }, h("h2", {}, "Limits of this device"), this.limits),
      ),
    );
  }

  trends() {
    const buttons = SPANS.map(([text, seconds]) =>
      h("button", { "aria-pressed": seconds === this.span_s, onclick: () => choose(seconds) }, text),
    );
    const choose = (/** @type {number} */ seconds) => {
      this.span_s = seconds;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(SPANS[i][1] === seconds)));
      this.draw();
    };
    return h(
      "section",
      { class: "panel stack" },
      h("div", { class: "facts" }, h("h2", {}, "Heart rate (/min)"), h("div", { class: "spans" }, ...buttons)),
      this.bpm,
      this.earlier,
      h("h2", {}, "RR interval (s), last ten minutes"),
      this.rr,
    );
  }

  /**
   * @param {string} label
   * @param {number[]} values
   * @param {"speed" | "gain"} field
   * @param {string} unit
   */
  choice(label, values, field, unit) {
    const select = h(
      "select",
      {
        onchange: () => {
          this[field] = Number(select.value);
          localStorage.setItem(field, select.value);
          this.sweep.look = this.look();
          this.redraw();
        },
      },
      ...values.map((value) => h("option", { value, selected: value === this[field] }, `${value} ${unit}`)),
    );
    return h("label", { class: "inline" }, label, select);
  }

  look() {
    return { perSecond: this.speed * MM, perMv: this.gain * MM, fits: false, marks: true };
  }

  redraw() {
    drawGrid(this.grid);
    this.sweep.reset();
    this.draw();
  }

  update() {
    const row = link.rows.get(this.id);
    setText(this.name, row?.name || this.id);
    this.under.hidden = !row?.name;
    const connection = row?.connection ?? "streaming";
    setText(this.rate, connection === "streaming" ? rate(row?.heart_rate_bpm) : "––");
    const unwatched = link.unwatchedOf(row);
    this.element.toggleAttribute("data-unwatched", Boolean(unwatched));
    const ahead_s = link.ahead_s(this.id);
    const silences = (row?.silenced ?? []).filter((silence) => silence.until_s > link.now_s());
    fill(this.facts, [
      unwatched && fact(sentence(unwatched.what), `${sinceText(unwatched.since_s)}: ${unwatched.why}`),
      !unwatched && fact("Connection", row ? CONNECTIONS[connection] : "not known here"),
      !unwatched && fact("Rhythm", row?.rhythm ?? "not named"),
      !unwatched && fact("Signal", qualityText(row?.judged) || "–"),
      !unwatched && connection !== "streaming" && fact("Last seen", row ? seenText(row) : "–"),
      ahead_s !== 0 && fact("Its clock", `${span(Math.abs(ahead_s))} ${ahead_s > 0 ? "ahead" : "behind"}`),
      ...silences.map((silence) =>
        fact(
          `Silenced until ${clock(silence.until_s)}`,
          `${silence.kind ? kindName(silence.kind) : "all alerts"}: ${silence.reason} (${silence.by})`,
        ),
      ),
      silences.length > 0 &&
        h("button", { disabled: !link.mayAnswer, onclick: () => act("unsilence", { device: this.id }) }, "End silence"),
    ]);
    const uncalibrated = this.sweep.signal.end_s > 0 && this.sweep.signal.step_uv === 0;
    if (this.sweep.look.fits !== uncalibrated) this.sweep.look = { ...this.look(), fits: uncalibrated };
    setText(
      this.note,
      `${this.speed} mm/s · ${uncalibrated ? "not calibrated: the device has not told its resolution" : `${this.gain} mm/mV`} · 0.5 Hz high pass`,
    );
    this.updateAlerts();
    this.updateLimits(row);
  }

  updateAlerts() {
    const own = [...link.alerts.values()].filter((alert) => alert.device === this.id && isListed(alert));
    this.updateAlarms(own.filter((alert) => !alert.ended_s || isLatched(alert)).sort(byUrgency));
    own.sort((a, b) => Number(Boolean(a.ended_s)) - Number(Boolean(b.ended_s)) || b.since_s - a.since_s);
    const key = own.map((alert) => `${alert.episode}${alert.ended_s}${alert.acknowledged_by}${alert.time_s}`).join();
    if (this.alerts.dataset.key === key) return;
    this.alerts.dataset.key = key;
    fill(
      this.alerts,
      own.length === 0
        ? [h("p", { class: "dim" }, "None since this page was started. That does not mean no disease.")]
        : [h("ul", { class: "life" }, ...own.slice(0, 12).map((alert) => h("li", {}, alertItem(alert, false, ""))))],
    );
  }

  /**
   * Show what is alerted now above the strip, where it is seen first.
   * @param {Episode[]} active
   */
  updateAlarms(active) {
    const key = active.map((alert) => [alert.episode, alert.severity, isOpen(alert), isLatched(alert)]).join();
    if (this.alarms.dataset.key !== key) {
      this.alarms.dataset.key = key;
      fill(this.alarms, active.map(ownAlarm));
    }
    active.forEach((alert, i) => {
      const { what, when } = headline(alert);
      const text = this.alarms.children[i].querySelector("a > :last-child");
      if (text) setText(text, alert.ended_s ? `${what}, ${when}` : `${what} for ${when}`);
    });
  }

  /**
   * Show the limits, once they or those of all devices have changed.
   * @param {Row | undefined} row
   */
  updateLimits(row) {
    const key = JSON.stringify([row?.limits, link.monitors[row?.monitor ?? ""]?.limits]);
    if (!row || this.limits.dataset.key === key) return;
    this.limits.dataset.key = key;
    showLimits(this.limits, this.id);
  }

  async refresh() {
    if (document.hidden) return;
    try {
      this.detail = await link.get(`/api/device/${encodeURIComponent(this.id)}`);
      this.draw();
    } catch {
      // Not known yet, or the server is away: asked again.
    }
    this.update();
  }

  draw() {
    if (!this.detail) return;
    const { trend, hours } = this.detail;
    const until = Math.max(link.now_s(), trend.newest_s);
    const first_s = trend.newest_s - (trend.bpm.length - 1) * trend.bin_s;
    const points = trend.bpm.map((value, i) => ({ x: first_s + i * trend.bin_s, y: value ?? NaN }));
    const from = until - this.span_s;
    const before = pointsOf(hours, from, points.length ? first_s : until);
    const shown = points.filter((point) => point.x >= from);
    drawChart(this.bpm, { points: [...before, ...shown], from, until, least: 40, line: true });
    setText(
      this.earlier,
      before.length ? `Before ${clock(points.length ? first_s : until)}: the mean of each hour.` : "",
    );
    this.earlier.hidden = before.length === 0;
    const beats = trend.beats
      .filter((beat) => beat[0] > until - 600 && beat[1] !== null)
      .map(([x, rr, label]) => ({
        x,
        y: Math.min(3, rr ?? NaN),
        isMarked: !["N", "normal", "withheld"].includes(label),
      }));
    drawChart(this.rr, { points: beats, from: until - 600, until, least: 0.4, line: false });
    this.drawClasses();
  }

  drawClasses() {
    if (!this.detail) return;
    const { trend, hours } = this.detail;
    const day = /** @type {Record<string, number>} */ ({});
    for (const hour of hours) {
      for (const [label, count] of Object.entries(hour.beats)) day[label] = (day[label] ?? 0) + count;
    }
    const labels = [...new Set([...Object.keys(trend.classes), ...Object.keys(day)])].sort();
    const total = Object.values(trend.classes).reduce((sum, count) => sum + count, 0);
    const line = (/** @type {string} */ label) => {
      const count = trend.classes[label] ?? 0;
      return h(
        "tr",
        {},
        h("td", {}, className(label)),
        h("td", { class: "number" }, count),
        h("td", { class: "number" }, total ? percent(count / total) : "–"),
        hours.length > 0 && h("td", { class: "number" }, day[label] ?? 0),
      );
    };
    const head = h(
      "tr",
      {},
      h("th", {}, "Class"),
      h("th", { class: "number" }, "Since the page started"),
      h("th", { class: "number" }, "Share"),
      hours.length > 0 && h("th", { class: "number" }, "Last 24 h"),
    );
    const reasons = Object.entries(trend.reasons).map(([reason, count]) => `${reason} ${count}`);
    fill(this.classes, [
      labels.length
        ? h("table", {}, h("thead", {}, head), h("tbody", {}, ...labels.map(line)))
        : h("p", { class: "dim" }, "No beat heard yet."),
      reasons.length > 0 && h("p", { class: "dim" }, `Withheld (not judged): ${reasons.join(", ")}`),
    ]);
    setAttribute(this.classes, "data-total", String(total));
  }
}

/**
 * The heart rate of hours as steps, for what was before this page was started.
 * @param {Hour[]} hours
 * @param {number} from
 * @param {number} until
 */
function pointsOf(hours, from, until) {
  return hours.flatMap(({ start_s, bpm }) => {
    const [begin, end] = [Math.max(start_s, from), Math.min(start_s + 3600, until)];
    if (bpm === null || begin >= end) return [];
    return [
      { x: begin, y: NaN },
      { x: begin, y: bpm },
      { x: end, y: bpm },
    ];
  });
}

/**
 * @param {string} name
 * @param {number[]} allowed
 * @param {number} usual
 */
function stored(name, allowed, usual) {
  const value = Number(localStorage.getItem(name));
  return allowed.includes(value) ? value : usual;
}

/**
 * @param {string} name
 * @param {string} text
 */
function fact(name, text) {
  return h("div", {}, h("span", {}, name), h("span", {}, text));
}

/**
 * An alert of the device, with the nearest way to answer it.
 * @param {Episode} alert
 */
function ownAlarm(alert) {
  const { device, episode } = alert;
  const isAnswerable = (isOpen(alert) || isLatched(alert)) && link.mayAnswer;
  return h(
    "div",
    { class: "own-alarm" },
    h(
      "a",
      { class: "alarm", href: `#/alerts/${encodeURIComponent(episode)}` },
      badge(alert.severity, { isQuiet: !isOpen(alert) }),
      h("span", {}),
    ),
    isAnswerable &&
      h(
        "button",
        { "aria-label": `Acknowledge ${kindName(alert.kind)}`, onclick: () => act("acknowledge", { device, episode }) },
        "Acknowledge",
      ),
  );
}

function legend() {
  return h("span", { class: "dim" }, "Above the strip: N normal · S, V, F, Q, A not normal (underlined) · ? withheld");
}
