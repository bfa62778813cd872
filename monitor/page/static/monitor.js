// The monitor: how it is, how fast, what it has counted, and which models it could use.

import { h, fill } from "./dom.js";
import { link } from "./link.js";
import { day, span } from "./words.js";

const AWAY = { offline: "offline", overdue: "does not answer", doubtful: "has not answered yet" };

/** @returns {View} */
export function openMonitor() {
  const view = new MonitorView();
  return { element: view.element, title: "Monitor", close: () => view.close() };
}

class MonitorView {
  constructor() {
    this.status = h("div", { class: "columns" });
    this.models = h("div", { class: "columns" });
    this.page = h("div", {});
    this.element = h(
      "div",
      { class: "page" },
      h("h1", {}, "Monitor"),
      this.status,
      h("section", { class: "panel stack" }, h("h2", {}, "This page"), this.page),
      h("h1", {}, "Models that come with it"),
      this.models,
    );
    this.end = link.on("monitors", () => this.update());
    this.timer = setInterval(() => this.refresh(), 5000);
    this.hasModels = false;
    this.update();
    this.refresh();
  }

  close() {
    clearInterval(this.timer);
    this.end();
  }

  update() {
    const known = Object.entries(link.monitors);
    fill(
      this.status,
      known.length
        ? known.map(([name, status]) => statusPanel(name, status))
        : [h("p", { class: "empty" }, "No monitor has said anything here: nobody is watched.")],
    );
  }

  async refresh() {
    if (document.hidden) return;
    try {
      const about = await link.get("/api/monitor");
      fill(this.page, [
        countsTable({
          ...prefixed(about.refused, "refused: "),
          ...prefixed(about.dropped, "not understood: "),
          ...prefixed(about.asked, "asked: "),
        }),
      ]);
      if (!this.hasModels) fill(this.models, about.models.map(modelPanel));
      this.hasModels = true;
    } catch {
      // The server is away; asked again.
    }
  }
}

/**
 * @param {string} name
 * @param {MonitorStatus} status
 */
function statusPanel(name, status) {
  const away = link.watchNews.away[name];
  const lines = /** @type {[string, string][]} */ ([
    ["State", away && status.state !== "offline" ? `${AWAY[away.how]}; last said: ${status.state}` : status.state],
    ["Running for", status.state === "offline" ? "–" : span(link.now_s() - status.since_s)],
    ["Version", status.version],
    ...(status.fleet === null
      ? []
      : /** @type {[string, string][]} */ ([
          ["Processes", String(status.processes)],
          ["Parts of the fleet", String(status.partitions)],
        ])),
    ["Model", status.model],
    [
      "Devices",
      `${status.devices}: ${status.streaming} streaming, ${status.lead_off} electrode off, ${status.silent} silent`,
    ],
    ["From sensor to monitor (median)", status.lateness_s === null ? "–" : latency(status.lateness_s)],
    ["Packets not settled yet", String(status.unsettled)],
    ["Storage", status.fault ?? "ok"],
    ["Broker", link.hasBroker ? (status.broker_fault ?? "ok") : "not connected"],
  ]);
  return h(
    "section",
    { class: "panel stack" },
    h("h2", {}, status.fleet === null ? `Name: ${name}` : `Fleet: ${name}`),
    h(
      "table",
      {},
      h("tbody", {}, ...lines.map(([what, text]) => h("tr", {}, h("th", { scope: "row" }, what), h("td", {}, text)))),
    ),
    h("details", {}, h("summary", {}, "Counts"), countsTable(status.counts)),
    h("p", { class: "dim" }, `As of ${day(away?.since_s ?? link.now_s(), link.now_s())}`),
  );
}

/** @param {number} seconds */
function latency(seconds) {
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;
}

/** @param {Record<string, number>} counts */
function countsTable(counts) {
  const entries = Object.entries(counts);
  if (entries.length === 0) return h("p", { class: "dim" }, "Nothing refused, nothing asked.");
  return h(
    "table",
    {},
    h(
      "tbody",
      {},
      ...entries.map(([what, count]) => h("tr", {}, h("td", {}, what), h("td", { class: "number" }, count))),
    ),
  );
}

/**
 * @param {Record<string, number>} counts
 * @param {string} prefix
 */
function prefixed(counts, prefix) {
  return Object.fromEntries(Object.entries(counts).map(([what, count]) => [prefix + what, count]));
}

/** @param {ModelInfo} model */
function modelPanel(model) {
  const card = h("pre", { class: "card", tabindex: "0" });
  const details = h(
    "details",
    {},
    h("summary", {}, "Card: what it was trained on, how it was measured, where it fails"),
    card,
  );
  details.addEventListener("toggle", async () => {
    if (!details.open || card.textContent) return;
    const answer = await fetch(`/api/card/${encodeURIComponent(model.name)}`);
    card.textContent = answer.ok ? await answer.text() : "There is no card.";
  });
  return h(
    "section",
    { class: "panel stack" },
    h("h2", {}, `${model.name} (${model.network})`),
    h(
      "p",
      {},
      `Classes: ${model.classes.join(", ")}. A beat counts as abnormal from a probability of ${model.threshold.toFixed(2)} on.`,
    ),
    details,
  );
}
