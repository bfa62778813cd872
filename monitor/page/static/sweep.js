// A live strip that is swept like a bedside monitor's: each frame draws only what is new.

/** @typedef {import("./signal.js").Signal} Signal */

const FRAME_MS = 1000 / 30 - 3;
/** Pixels in front of the pen that are erased. */
const GAP = 14;
const LANE = 15;
/** Gains that a strip may choose for itself, of its usual one. */
const GAINS = [2, 1, 0.5, 0.25, 0.125, 0.0625];

/**
 * @typedef {object} Look
 * @property {number} perSecond pixels a second
 * @property {number} perMv pixels a millivolt
 * @property {boolean} fits whether the gain follows the signal
 * @property {boolean} marks whether beats are marked
 */

/** One strip. */
export class Sweep {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Signal} signal
   * @param {Look} look
   */
  constructor(canvas, signal, look) {
    this.canvas = canvas;
    this.signal = signal;
    this.look = look;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.width = 0;
    this.height = 0;
    this.drawn_s = NaN;
    this.penX = NaN;
    this.penY = 0;
    this.gain = 1;
    /** Whether the signal went beyond the strip. */
    this.clips = false;
    this.marked = 0;
    /** Called with a mark when it is drawn. @type {((mark: import("./signal.js").Mark) => void) | null} */
    this.onmark = null;
    animator.add(this);
  }

  close() {
    animator.remove(this);
  }

  /** Draw all again with the next frame. */
  reset() {
    this.drawn_s = NaN;
  }

  /** @param {Signal} signal */
  show(signal) {
    this.signal = signal;
    this.reset();
  }

  /** @param {number} now_s */
  frame(now_s) {
    if (this.signal.end_s === 0) {
      if (!Number.isNaN(this.drawn_s)) this.begin(0);
      return;
    }
    const until_s = this.signal.playhead(now_s);
    if (Number.isNaN(this.drawn_s) || until_s < this.drawn_s - 1 || until_s > this.drawn_s + this.seconds) {
      this.begin(until_s);
    }
    if (until_s <= this.drawn_s) return;
    if (this.look.fits && this.x(until_s) < this.x(this.drawn_s)) this.gain = this.fit(until_s);
    this.erase(this.drawn_s, until_s);
    this.stroke(this.drawn_s, until_s);
    this.drawn_s = until_s;
    if (this.clips && this.fit(until_s) < this.gain)
      this.begin(until_s); // the first of it was small
    else if (this.look.marks) this.mark();
    this.clips = false;
  }

  /** How much a strip shows. */
  get seconds() {
    return Math.max(0.1, (this.width - GAP - 2) / this.look.perSecond);
  }

  /**
   * Measure the canvas, and begin on an empty one, a strip's length back.
   * @param {number} until_s
   */
  begin(until_s) {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.width = clientWidth;
    this.height = clientHeight;
    const [columns, rows] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    const context = this.context;
    if (this.canvas.width !== columns || this.canvas.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
    } else context.clearRect(0, 0, clientWidth, clientHeight); // while a fleet scrolls: a new canvas is dear
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.lineWidth = 1.4;
    context.lineJoin = "round";
    context.strokeStyle = colours.signal;
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    this.drawn_s = until_s === 0 ? NaN : until_s - this.seconds;
    this.penX = NaN;
    this.marked = 0;
    if (this.look.fits && until_s !== 0) this.gain = this.fit(until_s);
  }

  /**
   * Choose the largest gain at which the signal of the last seconds stays within the strip.
   * @param {number} until_s
   */
  fit(until_s) {
    let most = 0;
    for (const chunk of this.signal.chunks) {
      if (chunk.start_s < until_s - 10) continue;
      for (const value of chunk.values) if (Math.abs(value) > most) most = Math.abs(value);
    }
    const room = (this.height - (this.look.marks ? LANE : 0)) / 2 - 2;
    if (this.signal.step_uv === 0) return most ? (room * 1000) / (this.look.perMv * most) : 1;
    return GAINS.find((gain) => (most / 1000) * this.look.perMv * gain <= room) ?? GAINS[GAINS.length - 1];
  }

  /** @param {number} time_s */
  x(time_s) {
    const pixels = time_s * this.look.perSecond;
    return pixels - Math.floor(pixels / this.width) * this.width;
  }

  /**
   * Erase what the pen comes to.
   * @param {number} from_s
   * @param {number} until_s
   */
  erase(from_s, until_s) {
    const width = Math.min(this.width, (until_s - from_s) * this.look.perSecond + 1);
    const left = this.x(from_s) + GAP;
    const start = left >= this.width ? left - this.width : left;
    const first = Math.min(width, this.width - start);
    this.context.clearRect(start, 0, first, this.height);
    if (width > first) this.context.clearRect(0, 0, width - first, this.height);
  }

  /**
   * Draw the signal of a time.
   * @param {number} from_s
   * @param {number} until_s
   */
  stroke(from_s, until_s) {
    const { context, look, signal } = this;
    const lane = look.marks ? LANE : 0;
    const middle = lane + (this.height - lane) * 0.56;
    const scale = (look.perMv * this.gain) / 1000;
    context.beginPath();
    if (!Number.isNaN(this.penX)) context.moveTo(this.penX, this.penY);
    for (const chunk of signal.chunks) {
      const step_s = 1 / chunk.rate_hz;
      if (chunk.start_s + chunk.values.length * step_s <= from_s) continue;
      if (chunk.start_s >= until_s) break;
      if (!chunk.joins && chunk.start_s >= from_s) this.penX = NaN;
      const first = Math.max(0, Math.ceil((from_s - chunk.start_s) / step_s));
      for (let i = first; i < chunk.values.length; i++) {
        const time_s = chunk.start_s + i * step_s;
        if (time_s >= until_s) break;
        this.draw(time_s, chunk.values[i], middle, scale);
      }
    }
    context.stroke();
  }

  /**
   * Go on to one sample.
   * @param {number} time_s
   * @param {number} value
   * @param {number} middle
   * @param {number} scale
   */
  draw(time_s, value, middle, scale) {
    if (Number.isNaN(value)) {
      this.penX = NaN;
      return;
    }
    const x = this.x(time_s);
    const y = Math.max(1, Math.min(this.height - 1, middle - value * scale));
    if (this.look.fits && (y === 1 || y === this.height - 1)) this.clips = true;
    if (Number.isNaN(this.penX) || x < this.penX) this.context.moveTo(x, y);
    else this.context.lineTo(x, y);
    this.penX = x;
    this.penY = y;
  }

  /** Mark the beats that were not marked yet. */
  mark() {
    const { marks } = this.signal;
    const since_s = Math.max(this.drawn_s - this.seconds, this.signal.chunks[0]?.start_s ?? Infinity);
    for (const mark of marks) {
      if (mark.heard_ms <= this.marked || mark.time_s > this.drawn_s) continue;
      if (mark.time_s > since_s) this.drawMark(mark);
    }
    const open = marks.find((mark) => mark.heard_ms > this.marked && mark.time_s > this.drawn_s);
    const last = marks[marks.length - 1];
    if (open) this.marked = Math.max(this.marked, open.heard_ms - 0.001);
    else if (last) this.marked = Math.max(this.marked, last.heard_ms);
  }

  /** @param {import("./signal.js").Mark} mark */
  drawMark(mark) {
    const { context } = this;
    const x = this.x(mark.time_s);
    const isNormal = mark.verdict === "normal";
    context.clearRect(x - 7, 0, 14, LANE);
    context.fillStyle = isNormal ? colours.dim : mark.verdict === "withheld" ? colours.dim : colours.mark;
    context.fillText(markText(mark), x, LANE / 2 + 1);
    if (mark.verdict === "abnormal") context.fillRect(x - 5, LANE - 2, 10, 2);
    this.onmark?.(mark);
  }
}

/**
 * Letter of a beat.
 * @param {{label: string | null, verdict: string | null}} mark
 */
export function markText(mark) {
  if (mark.verdict === "withheld") return "?";
  if (mark.label === null) return "·";
  if (mark.label === "normal") return "N";
  if (mark.label === "abnormal") return "A";
  return mark.label.slice(0, 2);
}

/** Colours of the theme, as the canvas needs them. */
export const colours = { signal: "", dim: "", mark: "", grid: "", gridStrong: "", text: "", panel: "", accent: "" };

/** Read the theme's colours; all strips are drawn again. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of /** @type {(keyof typeof colours)[]} */ (Object.keys(colours))) {
    const property = name.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`);
    colours[name] = style.getPropertyValue(`--${property}`).trim();
  }
  animator.reset();
}

/** Draws all strips, 30 times a second, as long as there are any. */
class Animator {
  constructor() {
    /** @type {Set<Sweep>} */
    this.sweeps = new Set();
    this.last_ms = 0;
    this.isRunning = false;
  }

  /** @param {Sweep} sweep */
  add(sweep) {
    this.sweeps.add(sweep);
    if (!this.isRunning) {
      this.isRunning = true;
      requestAnimationFrame((now) => this.turn(now));
    }
  }

  /** @param {Sweep} sweep */
  remove(sweep) {
    this.sweeps.delete(sweep);
  }

  reset() {
    for (const sweep of this.sweeps) sweep.reset();
  }

  /** @param {number} now_ms */
  turn(now_ms) {
    if (this.sweeps.size === 0) {
      this.isRunning = false;
      return;
    }
    requestAnimationFrame((now) => this.turn(now));
    if (now_ms - this.last_ms < FRAME_MS) return;
    this.last_ms = now_ms;
    const now_s = performance.now() / 1000;
    for (const sweep of this.sweeps) sweep.frame(now_s);
  }
}

const animator = new Animator();
window.addEventListener("resize", () => animator.reset());
