// Alerts: active and past, by priority; each with its strip, its life, and what a person can do with it.

import { h, fill, setText } from "./dom.js";
import { deviceName, link } from "./link.js";
import { drawStrip, stripWidth } from "./paper.js";
import { answers, badge } from "./pieces.js";
import { began, byUrgency, isLatched, isOpen, isSilenced, sinceBegin } from "./urgency.js";
import { className, day, endReason, kindName, ownClock, percent, span } from "./words.js";

const MOST_PAST = 300;
const STEPS = /** @type {Record<string, string>} */ ({
  new: "began",
  end: "ended",
  acknowledged: "acknowledged",
  silenced: "silenced",
  commented: "commented",
});
/** Steps that have the device's time; people's have the monitor's. */
const OF_DEVICES = ["new", "update", "end"];

/**
 * @param {string} episode
 * @returns {View}
 */
export function openAlerts(episode) {
  const view = new Alerts(episode);
  return { element: view.element, title: "Alerts", close: () => view.close() };
}

/** Whether past alerts that are technical are listed: they are many, and seldom what somebody looks for. */
export function showsTechnical() {
  return localStorage.getItem("technical") === "shown";
}

/**
 * Whether an alert is listed.
 * @param {Episode} alert
 */
export function isListed(alert) {
  return !alert.ended_s || alert.severity !== "technical" || showsTechnical();
}

/**
 * One line of a list of alerts.
 * @param {Episode} alert
 * @param {boolean} isChosen
 * @param {string} whose Name of its device; empty where that is known.
 */
export function alertItem(alert, isChosen, whose) {
  const isOver = Boolean(alert.ended_s);
  const when = isOver
    ? `${began(alert)}, for ${span((alert.ended_s ?? 0) - alert.since_s)}`
    : `for ${sinceBegin(alert)}`;
  const answered = alert.acknowledged_by
    ? ` · acknowledged by ${alert.acknowledged_by}`
    : isSilenced(link.rows.get(alert.device), alert)
      ? " · silenced"
      : "";
  return h(
    "a",
    {
      class: "alert-item",
      href: `#/alerts/${encodeURIComponent(alert.episode)}`,
      "aria-current": isChosen ? "true" : null,
    },
    badge(alert.severity, { isQuiet: isOver || answered !== "" }),
    h("span", { class: "what" }, kindName(alert.kind)),
    h("span", { class: "dim" }, when),
    h("span", { class: "more" }, whose && h("b", {}, `${whose} `), `${alert.text ?? ""}${answered}`),
  );
}

class Alerts {
  /** @param {string} episode */
  constructor(episode) {
    this.chosen = episode;
    /** With room for both, the gravest is opened for whoever has not chosen one. */
    this.choosesItself = !episode && matchMedia("(min-width: 721px)").matches;
    this.list = h("section", { class: "alert-list", "aria-label": "Alerts", tabindex: "0" });
    this.detail = h("section", { class: "alert-detail page", "aria-label": "The alert" });
    this.element = h("div", { class: "split", "data-open": Boolean(episode) }, this.list, this.detail);
    this.shown = "";
    this.key = "";
    this.ends = [link.on("alerts", () => this.update()), link.on("rows", () => this.update())];
    this.resizing = new ResizeObserver(() => this.redraw());
    this.resizing.observe(this.detail);
    this.timer = setInterval(() => this.update(true), 10_000);
    /** @type {[HTMLCanvasElement, Strip, HTMLElement][]} */
    this.papers = [];
    this.update();
  }

  close() {
    clearInterval(this.timer);
    this.resizing.disconnect();
    for (const end of this.ends) end();
  }

  update(now = false) {
    const all = [...link.alerts.values()];
    if (this.choosesItself && !link.alerts.has(this.chosen)) this.chosen = gravest(all)?.episode ?? "";
    const key = all
      .map((alert) => [
        alert.episode,
        alert.time_s,
        alert.ended_s,
        alert.acknowledged_by,
        alert.right,
        deviceName(alert.device),
      ])
      .join();
    const mayRebuild = !this.list.contains(document.activeElement) || this.list === document.activeElement;
    if (now || (key !== this.key && mayRebuild)) {
      this.key = key;
      this.fillList(all);
    }
    this.showDetail();
  }

  /** @param {Episode[]} all */
  fillList(all) {
    const top = this.list.scrollTop;
    const active = all.filter((alert) => !alert.ended_s).sort(byUrgency);
    const ended = all.filter((alert) => alert.ended_s).sort(byEnd);
    const unseen = ended.filter(isLatched);
    const past = ended.filter((alert) => isListed(alert) && !unseen.includes(alert));
    const technical = ended.filter((alert) => alert.severity === "technical").length;
    const toggle = () => {
      localStorage.setItem("technical", showsTechnical() ? "hidden" : "shown");
      this.fillList([...link.alerts.values()]);
      this.list.querySelector("button")?.focus();
    };
    const items = (/** @type {Episode[]} */ alerts) =>
      h(
        "ul",
        {},
        ...alerts.map((alert) =>
          h("li", {}, alertItem(alert, alert.episode === this.chosen, deviceName(alert.device))),
        ),
      );
    fill(this.list, [
      h(
        "div",
        { class: "bar" },
        h("h1", {}, "Alerts"),
        technical > 0 &&
          h("button", { "aria-pressed": showsTechnical(), onclick: toggle }, `Show past technical (${technical})`),
      ),
      h("h2", {}, `Active (${active.length})`),
      active.length ? items(active) : h("p", { class: "empty" }, "No active alert. That does not mean no disease."),
      unseen.length > 0 && h("h2", {}, `Over, and seen by nobody (${unseen.length})`),
      unseen.length > 0 && items(unseen),
      h("h2", {}, `Past (${past.length}${past.length > MOST_PAST ? `, the last ${MOST_PAST} are shown` : ""})`),
      items(past.slice(0, MOST_PAST)),
    ]);
    this.list.scrollTop = top;
  }

  async showDetail() {
    const alert = link.alerts.get(this.chosen);
    if (!alert) {
      fill(this.detail, [
        h("p", { class: "empty" }, this.chosen ? "This alert is not known here." : "Choose an alert to see its strip."),
      ]);
      return;
    }
    const key = JSON.stringify([alert, isSilenced(link.rows.get(alert.device), alert), link.ahead_s(alert.device)]);
    if (key === this.shown) return;
    this.shown = key;
    /** @type {AlertDetail["strips"]} */
    let strips = {};
    try {
      strips = (await link.get(`/api/alert?episode=${encodeURIComponent(alert.episode)}`)).strips;
    } catch {
      // Shown without its strip.
    }
    if (this.shown === key) this.fillDetail(alert, strips);
  }

  /**
   * @param {Episode} alert
   * @param {AlertDetail["strips"]} strips
   */
  fillDetail(alert, strips) {
    this.papers = [];
    const named = /** @type {[string, Strip | undefined][]} */ ([
      ["Signal when it began", strips.new],
      ["Signal when it ended", strips.end],
      ["The beat", strips.new ? undefined : strips.beat],
    ]);
    fill(this.detail, [
      h("a", { href: "#/alerts", class: "back" }, "← All alerts"),
      h(
        "div",
        { class: "bar" },
        badge(alert.severity, { isQuiet: Boolean(alert.ended_s), flashes: isOpen(alert) && alert.severity === "high" }),
        h("h1", {}, kindName(alert.kind)),
        h("a", { href: `#/device/${encodeURIComponent(alert.device)}` }, deviceName(alert.device)),
      ),
      h("p", {}, alert.text || "The monitor gave no further words."),
      ...named.map(([title, strip]) => strip && this.paper(title, strip)),
      !alert.has_strip && h("p", { class: "dim" }, withoutSignal(alert)),
      facts(alert),
      answers(alert),
      !link.mayAnswer && h("p", { class: "dim" }, "You are logged in as a viewer: you may look, and change nothing."),
      life(alert),
      h("p", { class: "dim" }, "Research use only, not a medical device. No alert does not mean no disease."),
    ]);
    this.redraw();
  }

  /**
   * @param {string} title
   * @param {Strip} strip
   */
  paper(title, strip) {
    const canvas = h("canvas", { role: "img", "aria-label": `${title}: electrocardiogram with its beats` });
    canvas.style.width = `${Math.max(stripWidth(strip), 200)}px`;
    const note = h("span", { class: "dim" });
    this.papers.push([canvas, strip, note]);
    return h(
      "div",
      { class: "stack" },
      h("h2", {}, title),
      h("div", { class: "paper still", tabindex: "0", role: "group", "aria-label": title }, canvas),
      note,
    );
  }

  redraw() {
    const ahead_s = link.ahead_s(link.alerts.get(this.chosen)?.device ?? "");
    for (const [canvas, strip, note] of this.papers) {
      setText(note, drawStrip(canvas, strip, ahead_s));
      const paper = /** @type {HTMLElement} */ (canvas.parentElement);
      paper.scrollLeft = paper.scrollWidth; // what it is about stands at the end
    }
  }
}

/**
 * Why there is no signal of an alert.
 * @param {Episode} alert
 */
function withoutSignal(alert) {
  return (alert.steps ?? []).some((step) => step.state === "new")
    ? "This alert came without signal."
    : "This alert began before the page was started, so its signal is not here: open the device for the live strip.";
}

/**
 * @param {Episode} a
 * @param {Episode} b
 */
function byEnd(a, b) {
  return (b.ended_s ?? 0) - (a.ended_s ?? 0);
}

/**
 * What somebody would look at first: of those that are active the gravest, else the last that is over.
 * @param {Episode[]} all
 */
function gravest(all) {
  const active = all.filter((alert) => !alert.ended_s).sort(byUrgency);
  return active[0] ?? all.filter(isLatched).sort(byEnd)[0] ?? all.filter(isListed).sort(byEnd)[0];
}

/** @param {Episode} alert */
function facts(alert) {
  const silenced = isSilenced(link.rows.get(alert.device), alert);
  const state = alert.ended_s
    ? `over, after ${span(alert.ended_s - alert.since_s)}${alert.reason ? `: ${endReason(alert.reason)}` : ""}`
    : `active for ${sinceBegin(alert)}`;
  const items = /** @type {[string, string | null | undefined | false | 0][]} */ ([
    ["State", state],
    ["Since", began(alert) + (link.ahead_s(alert.device) ? ` (${ownClock(alert.since_s)})` : "")],
    ["Acknowledged", alert.acknowledged_by ? `by ${alert.acknowledged_by}` : "no"],
    ["Silenced", silenced && "yes"],
    ["Heart rate", alert.heart_rate_bpm && `${Math.round(alert.heart_rate_bpm)} /min`],
    ["Abnormal beats", alert.beats && String(alert.beats)],
    ["Class", alert.label && className(alert.label)],
    ["Probability", typeof alert.probability === "number" && percent(alert.probability)],
    ["Model", alert.model],
  ]);
  return h(
    "div",
    { class: "facts" },
    ...items
      .filter(([, text]) => text)
      .map(([name, text]) => h("div", {}, h("span", {}, name), h("span", {}, String(text)))),
  );
}

/** @param {Episode} alert */
function life(alert) {
  const steps = (alert.steps ?? []).map((step) => {
    const isJudged = typeof step.right === "boolean";
    const did = isJudged ? `judged ${step.right ? "right" : "wrong"}` : (STEPS[step.state] ?? step.state);
    const text = step.state === "end" ? endReason(step.text) : (step.text ?? "");
    return h(
      "li",
      {},
      h(
        "span",
        { class: "dim" },
        day(OF_DEVICES.includes(step.state) ? link.time_s(alert.device, step.time_s) : step.time_s, link.now_s()),
      ),
      h("span", {}, `${did}${step.by ? ` by ${step.by}` : ""}`),
      h("span", {}, text),
    );
  });
  return h(
    "section",
    { class: "stack", hidden: steps.length === 0 },
    h("h2", {}, "What happened"),
    h("ul", { class: "life" }, ...steps),
  );
}
