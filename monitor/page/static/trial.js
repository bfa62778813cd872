// Try a beat or a file: verdict, confidence, waveform, and where on the beat the model looked.

import { h, fill, setText } from "./dom.js";
import { Refused, link } from "./link.js";
import { prepare } from "./paper.js";
import { colours } from "./sweep.js";
import { badge } from "./pieces.js";
import { className, kindName, percent, span } from "./words.js";

const SAMPLES = 187;
const MOST_LISTED = 500;
const DISCLAIMER = "Research use only, not a medical device.";

const QUESTIONS = /** @type {Record<string, string>} */ ({
  rate: "Samples a second",
  lead: "Column or signal",
  unit: "Unit (V, mV, uV, nV)",
});

/** @returns {View} */
export function openTrial() {
  const view = new TrialView();
  return { element: view.element, title: "Try a beat or a file", close: () => view.close() };
}

class TrialView {
  constructor() {
    this.model = h("select", { name: "model" });
    this.kind = h(
      "select",
      { name: "kind" },
      h("option", { value: "" }, "what it looks like"),
      h("option", { value: "try" }, "single beats (CSV)"),
      h("option", { value: "analyse" }, "a recording"),
    );
    this.message = h("p", { class: "error", role: "alert" });
    this.chosen = h("p", { role: "status" });
    this.question = h("form", { class: "bar", hidden: true });
    this.result = h("div", { class: "stack" });
    this.input = h("input", {
      type: "file",
      "aria-label": "Choose a file",
      class: "hidden-input",
      onchange: () => this.send(this.input.files?.[0]),
    });
    this.drop = h(
      "div",
      { class: "drop" },
      h("div", { class: "bar" }, h("label", { class: "button" }, "Choose a file …", this.input), this.chosen),
      h("label", {}, "It holds", this.kind),
      h("label", {}, "Model, for single beats", this.model),
      h(
        "p",
        { class: "dim" },
        "Or drop it here. Single beats: one a row, 187 samples from 0 to 1 at 125 Hz, and if you like a label (0: normal). Recordings: EDF, CSV, and what wearables export. Up to 64 MB; it is judged on the server and not kept.",
      ),
    );
    for (const event of ["dragover", "dragleave", "drop"]) {
      this.drop.addEventListener(event, (dragged) => this.onDrag(/** @type {DragEvent} */ (dragged)));
    }
    this.element = h(
      "div",
      { class: "page" },
      h("h1", {}, "Try a beat or a file"),
      this.drop,
      this.message,
      this.question,
      this.result,
    );
    this.resizing = new ResizeObserver(() => this.draw());
    this.resizing.observe(this.result);
    /** @type {Trial | null} */
    this.trial = null;
    this.row = 0;
    this.canvas = h("canvas", { class: "chart", role: "img" });
    this.words = h("p", { role: "status" });
    this.loadModels();
  }

  close() {
    this.resizing.disconnect();
  }

  async loadModels() {
    try {
      const { models } = /** @type {{models: ModelInfo[]}} */ (await link.get("/api/monitor"));
      const able = models.filter((model) => model.context.length === 0);
      fill(
        this.model,
        able.map((model) => h("option", { value: model.name }, `${model.name}: ${model.classes.join(", ")}`)),
      );
    } catch (error) {
      setText(this.message, String(error));
    }
  }

  /** @param {DragEvent} event */
  onDrag(event) {
    event.preventDefault();
    this.drop.toggleAttribute("data-over", event.type === "dragover");
    if (event.type === "drop") this.send(event.dataTransfer?.files[0]);
  }

  /**
   * Have a file judged.
   * @param {File | undefined} file
   * @param {Record<string, string>} [told] What a person says of it that it does not say itself.
   */
  async send(file, told = {}) {
    if (!file) return;
    this.trial = null;
    this.question.hidden = true;
    setText(this.message, "");
    setText(this.chosen, `${file.name} (${size(file.size)})`);
    fill(this.result, [h("p", { class: "dim", role: "status" }, `Judging ${file.name} …`)]);
    try {
      await this.judge(file, told);
    } catch (error) {
      fill(this.result, []);
      const text = error instanceof Error ? error.message : String(error);
      setText(this.message, /^[a-z]/.test(text) ? `${file.name} ${text}` : `${file.name}: ${text}`);
      const asks = error instanceof Refused ? String(error.content.asks ?? "") : "";
      if (asks) this.ask(file, told, asks);
    }
    this.input.value = ""; // else the same file could not be chosen again
  }

  /**
   * @param {File} file
   * @param {Record<string, string>} told
   */
  async judge(file, told) {
    const kind = this.kind.value || ((await looksLikeBeats(file)) ? "try" : "analyse");
    if (kind === "analyse") {
      const query = new URLSearchParams({ name: file.name, ...told });
      this.showAnalysis(file.name, await link.post(`/api/analyse?${query}`, file));
      return;
    }
    const model = this.model.value ? `?model=${encodeURIComponent(this.model.value)}` : "";
    this.trial = await link.post(`/api/try${model}`, file);
    this.row = 0;
    this.show(file.name);
  }

  /**
   * Ask for what a file does not say, and go on with it.
   * @param {File} file
   * @param {Record<string, string>} told
   * @param {string} asks
   */
  ask(file, told, asks) {
    const input = h("input", {
      name: asks,
      required: true,
      maxlength: 64,
      value: told[asks] ?? "",
      autocomplete: "off",
    });
    fill(this.question, [
      h("label", { class: "inline" }, QUESTIONS[asks] ?? asks, input),
      h("button", { class: "primary" }, "Go on"),
    ]);
    this.question.onsubmit = (event) => {
      event.preventDefault();
      this.send(file, { ...told, [asks]: input.value.trim() });
    };
    this.question.hidden = false;
    input.focus();
  }

  /**
   * @param {string} name
   * @param {Analysis} analysis
   */
  showAnalysis(name, analysis) {
    fill(this.result, [
      ...analysis.files.map((file) => analysisPanel(name, file)),
      h("p", { class: "dim" }, `${DISCLAIMER} No alert does not mean no disease.`),
    ]);
  }

  /** @param {string} name */
  show(name) {
    const trial = /** @type {Trial} */ (this.trial);
    const normal = trial.classes[0];
    const counts = new Map();
    for (const one of trial.names) counts.set(one ?? "withheld", (counts.get(one ?? "withheld") ?? 0) + 1);
    const total = trial.names.length;
    const summary = [...counts]
      .map(([label, count]) => `${className(label)} ${count} (${percent(count / total)})`)
      .join(" · ");
    const { labels } = trial;
    const agree =
      labels && trial.names.filter((one, i) => one !== null && (one !== normal) === (labels[i] !== 0)).length;
    const waveforms = atob(trial.waveforms).length / SAMPLES;
    fill(this.result, [
      h(
        "section",
        { class: "panel stack" },
        h("h2", {}, `${name}: ${total} beat${total === 1 ? "" : "s"}, judged by ${trial.model}`),
        h("p", {}, summary),
        agree !== null && h("p", {}, `${agree} of ${total} agree with their label (${percent(agree / total)}).`),
      ),
      h(
        "div",
        { class: "columns" },
        h(
          "section",
          { class: "panel stack" },
          h("h2", {}, "The beat"),
          this.words,
          this.canvas,
          h(
            "p",
            { class: "dim" },
            "Shaded: where the model looked. The darker, the more the answer changes when that part is replaced by a straight line. It explains the model, not the heart.",
          ),
        ),
        h(
          "section",
          { class: "panel stack" },
          h("h2", {}, total > MOST_LISTED ? `Beats (the first ${MOST_LISTED})` : "Beats"),
          this.listOf(Math.min(MOST_LISTED, waveforms)),
        ),
      ),
      h(
        "p",
        { class: "dim" },
        `${DISCLAIMER} “Normal” does not mean no disease, and no answer here is a reason not to see a physician.`,
      ),
    ]);
    this.draw();
  }

  /** @param {number} count */
  listOf(count) {
    const trial = /** @type {Trial} */ (this.trial);
    const buttons = Array.from({ length: count }, (_, i) =>
      h(
        "button",
        {
          "aria-pressed": i === 0,
          onclick: () => {
            buttons[this.row].setAttribute("aria-pressed", "false");
            this.row = i;
            buttons[i].setAttribute("aria-pressed", "true");
            this.draw();
          },
        },
        h("span", { class: "dim" }, `row ${i + 1}`),
        h("span", {}, verdictOf(trial, i)),
      ),
    );
    return h("div", { class: "verdicts", tabindex: "0", role: "group", "aria-label": "Beats" }, ...buttons);
  }

  draw() {
    const { trial } = this;
    if (!trial || this.canvas.clientWidth === 0) return;
    setText(this.words, `Row ${this.row + 1}: ${verdictOf(trial, this.row)}`);
    this.canvas.setAttribute("aria-label", `Waveform of the beat in row ${this.row + 1}`);
    const bytes = atob(trial.waveforms).slice(this.row * SAMPLES, (this.row + 1) * SAMPLES);
    drawBeat(this.canvas, bytes, trial.lengths[this.row] ?? SAMPLES, trial.attention[this.row] ?? [], trial.step);
  }
}

/**
 * Whether a file holds single beats: a table with as many columns as a beat has samples, or one more for a label.
 * @param {File} file
 */
async function looksLikeBeats(file) {
  if (/\.gz$/i.test(file.name)) return true; // recordings are not read from such files
  const [first] = (await file.slice(0, 16_384).text()).split(/\r?\n/, 1);
  return [SAMPLES, SAMPLES + 1].includes(first.split(/[,;\t]/).length);
}

/** @param {number} bytes */
function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * @param {Trial} trial
 * @param {number} row
 */
function verdictOf(trial, row) {
  const name = trial.names[row];
  const p = trial.probabilities[row];
  if (name === null || name === undefined || p === null || p === undefined) return "no answer";
  const isNormal = name === trial.classes[0];
  const confidence = percent(isNormal ? 1 - p : p);
  const label = trial.labels ? `, label ${trial.labels[row]}` : "";
  return `${className(name)}, confidence ${confidence}${label}`;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} bytes
 * @param {number} length
 * @param {number[]} attention
 * @param {number} step
 */
function drawBeat(canvas, bytes, length, attention, step) {
  const { context, width, height } = prepare(canvas);
  const x = (/** @type {number} */ i) => 6 + (i / (SAMPLES - 1)) * (width - 12);
  const most = Math.max(0.02, ...attention.map(Math.abs));
  context.fillStyle = colours.mark;
  attention.forEach((change, i) => {
    context.globalAlpha = 0.6 * (Math.abs(change) / most);
    context.fillRect(x(i * step + 5), 0, x(step) - x(0) + 0.5, height - 16);
  });
  context.globalAlpha = 1;
  context.beginPath();
  for (let i = 0; i < Math.min(length, bytes.length); i++) {
    const y = 6 + (1 - bytes.charCodeAt(i) / 255) * (height - 28);
    if (i) context.lineTo(x(i), y);
    else context.moveTo(x(i), y);
  }
  context.strokeStyle = colours.signal;
  context.lineWidth = 1.8;
  context.stroke();
  context.fillStyle = colours.dim;
  context.font = "12px system-ui, sans-serif";
  for (const [at, text] of /** @type {[number, string][]} */ ([
    [0, "0 s"],
    [62, "0.5 s"],
    [125, "1 s"],
  ])) {
    context.fillText(text, x(at), height - 3);
  }
}

/**
 * What was found in a recording.
 * @param {string} name
 * @param {Analysis["files"][number]} file
 */
function analysisPanel(name, file) {
  const counts = Object.entries(file.counts).map(([label, count]) => `${className(label)} ${count}`);
  const mean = file.heart_rate_bpm.mean;
  const alerts = file.alerts.map((alert) =>
    h(
      "tr",
      {},
      h("td", {}, badge(alert.severity)),
      h("td", {}, kindName(alert.kind)),
      h("td", { class: "number" }, span(alert.begin_s)),
      h("td", { class: "number" }, alert.end_s === null ? "to the end" : span(alert.end_s - alert.begin_s)),
      h("td", {}, alert.text),
    ),
  );
  const heads = ["Priority", "Alert", "After", "For", "What happened"].map((head) => h("th", {}, head));
  return h(
    "section",
    { class: "panel stack" },
    h("h2", {}, `${name}: ${span(file.seconds)} of lead ${file.lead ?? "unknown"}, judged by ${file.model}`),
    h("p", {}, `${counts.join(" · ")}${mean === null ? "" : ` · mean heart rate ${Math.round(mean)}/min`}`),
    ...file.notes.map((note) => h("p", { class: "dim" }, note)),
    alerts.length > 0
      ? h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...alerts))
      : h("p", {}, "No alert."),
  );
}
