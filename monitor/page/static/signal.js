// The signal of one device, as it came lately: filtered for the screen, with its beats.

const KEPT_S = 40;
const NONE = -32768;
/** A bedside monitor's usual filter against baseline wander. */
const HIGH_PASS_HZ = 0.5;
/** Chunks further apart than this are not one line. */
const JOINS_S = 0.03;
const HEADER_BYTES = 24;

/**
 * @typedef {{start_s: number, rate_hz: number, values: Float32Array, joins: boolean}} Chunk
 * @typedef {{time_s: number, label: string, verdict: string, heard_ms: number}} Mark
 */

/** Signal and beats of one device. */
export class Signal {
  constructor() {
    /** @type {Chunk[]} */
    this.chunks = [];
    /** @type {Mark[]} */
    this.marks = [];
    /** Time just after the last sample; 0 before the first. */
    this.end_s = 0;
    /** Microvolts a step; 0 while it is not known. */
    this.step_uv = 0;
    /** Time of the device minus that of this machine, at which a sample can be drawn without waiting for the next. */
    this.offset_s = NaN;
    /** @type {number[]} */
    this.offsets = [];
    this.last = NaN;
    this.filtered = 0;
  }

  /**
   * Take a frame; see monitor/page/signal.py.
   * @param {DataView} frame
   * @param {number} now_s
   */
  take(frame, now_s) {
    const rate_hz = frame.getFloat32(4, true);
    const start_s = frame.getFloat64(8, true);
    const step_uv = frame.getFloat32(16, true);
    const count = frame.getUint32(20, true);
    if (start_s < this.end_s - JOINS_S && start_s > this.end_s - KEPT_S) return;
    const joins = Math.abs(start_s - this.end_s) <= JOINS_S;
    if (start_s < this.end_s - KEPT_S) this.chunks.length = 0;
    if (step_uv !== this.step_uv) this.last = NaN;
    this.step_uv = step_uv;
    this.follow(now_s);
    if (!joins) this.last = NaN;
    const values = this.filter(frame, count, rate_hz, step_uv || 1);
    this.chunks.push({ start_s, rate_hz, values, joins });
    this.end_s = start_s + count / rate_hz;
    while (this.chunks.length > 1 && this.chunks[0].start_s < this.end_s - KEPT_S) this.chunks.shift();
  }

  /**
   * Microvolts without baseline wander: a high pass of first order.
   * @param {DataView} frame
   * @param {number} count
   * @param {number} rate_hz
   * @param {number} step_uv
   */
  filter(frame, count, rate_hz, step_uv) {
    const values = new Float32Array(count);
    const keep = Math.exp((-2 * Math.PI * HIGH_PASS_HZ) / rate_hz);
    for (let i = 0; i < count; i++) {
      const step = frame.getInt16(HEADER_BYTES + 2 * i, true);
      if (step === NONE) {
        values[i] = NaN;
        this.last = NaN;
        continue;
      }
      const value = step * step_uv;
      this.filtered = Number.isNaN(this.last) ? 0 : keep * (this.filtered + value - this.last);
      this.last = value;
      values[i] = this.filtered;
    }
    return values;
  }

  /**
   * Learn how far behind the drawing must be so that it never waits: what was there when the next chunk came.
   * @param {number} now_s
   */
  follow(now_s) {
    if (this.end_s === 0) return;
    this.offsets.push(this.end_s - now_s);
    if (this.offsets.length > 16) this.offsets.shift();
    const wanted = Math.min(...this.offsets) - 0.03;
    const away = wanted - this.offset_s;
    this.offset_s = Number.isNaN(away) || Math.abs(away) > 2 ? wanted : this.offset_s + 0.1 * away;
  }

  /**
   * Until when to draw now.
   * @param {number} now_s
   */
  playhead(now_s) {
    return Number.isNaN(this.offset_s) ? this.end_s : Math.min(this.end_s, now_s + this.offset_s);
  }

  /** @param {Beat} beat */
  takeBeat(beat) {
    if (this.marks.some((mark) => mark.time_s === beat.qrs_s)) return;
    const label = beat.verdict === "withheld" ? "withheld" : (beat.label ?? beat.verdict);
    this.marks.push({ time_s: beat.qrs_s, label, verdict: beat.verdict, heard_ms: performance.now() });
    if (this.marks.length > 200) this.marks.shift();
  }
}
