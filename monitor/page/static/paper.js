// ECG paper: the grid, a still strip on it with its beats, and charts of the last hours.

import { colours, markText } from "./sweep.js";
import { clock, ownClock } from "./words.js";

/** Pixels of a millimetre, as CSS defines it. */
export const MM = 96 / 25.4;
const LANE = 16;

/**
 * Make a canvas as sharp as the screen; its units stay CSS pixels.
 * @param {HTMLCanvasElement} canvas
 */
export function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

/**
 * Draw millimetres, every fifth stronger.
 * @param {HTMLCanvasElement} canvas
 */
export function drawGrid(canvas) {
  const { context, width, height } = prepare(canvas);
  for (const [every, colour] of /** @type {[number, string][]} */ ([
    [MM, colours.grid],
    [5 * MM, colours.gridStrong],
  ])) {
    context.beginPath();
    for (let x = 0; x < width; x += every) {
      context.moveTo(Math.round(x) + 0.5, 0);
      context.lineTo(Math.round(x) + 0.5, height);
    }
    for (let y = 0; y < height; y += every) {
      context.moveTo(0, Math.round(y) + 0.5);
      context.lineTo(width, Math.round(y) + 0.5);
    }
    context.strokeStyle = colour;
    context.stroke();
  }
}

/**
 * Draw a strip with its beats; returns what it is drawn at, in words.
 * @param {HTMLCanvasElement} canvas
 * @param {Strip} strip
 * @param {number} [ahead_s] By how much its device's clock is ahead.
 */
export function drawStrip(canvas, strip, ahead_s = 0) {
  drawGrid(canvas);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const height = canvas.clientHeight;
  const perSecond = 25 * MM;
  const known = /** @type {number[]} */ (strip.samples.filter((value) => value !== null)).sort((a, b) => a - b);
  if (known.length === 0) return "no valid signal";
  const middle = known[Math.floor(known.length / 2)];
  const swing = Math.max(known[known.length - 1] - middle, middle - known[0], 1);
  const room = (height - LANE) / 2 - 6;
  const gains = [20, 10, 5, 2.5, 1.25];
  const perMv = gains.find((gain) => ((gain * MM) / 1000) * swing <= room) ?? 1;
  const scale = strip.unit === "uV" ? (perMv * MM) / 1000 : room / swing;
  const zero = LANE + (height - LANE) * 0.55;
  context.beginPath();
  let isDown = false;
  strip.samples.forEach((value, i) => {
    if (value === null) {
      isDown = false;
      return;
    }
    const x = (i / strip.rate_hz) * perSecond;
    const y = zero - (value - middle) * scale;
    if (isDown) context.lineTo(x, y);
    else context.moveTo(x, y);
    isDown = true;
  });
  context.strokeStyle = colours.signal;
  context.lineWidth = 1.4;
  context.lineJoin = "round";
  context.stroke();
  drawBeats(context, strip, perSecond, height);
  const from = `from ${clock(strip.start_s - ahead_s)}${ahead_s ? ` (${ownClock(strip.start_s)})` : ""}`;
  return `25 mm/s · ${strip.unit === "uV" ? `${perMv} mm/mV` : "not calibrated"} · ${from}`;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Strip} strip
 * @param {number} perSecond
 * @param {number} height
 */
function drawBeats(context, strip, perSecond, height) {
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  for (const beat of strip.beats ?? []) {
    const x = (beat.time_s - strip.start_s) * perSecond;
    const isAbnormal = beat.verdict === "abnormal";
    context.fillStyle = isAbnormal ? colours.mark : colours.dim;
    context.fillText(markText(beat), x, 12);
    if (!isAbnormal) continue;
    context.fillRect(x - 6, LANE - 1, 12, 2);
    context.globalAlpha = 0.13;
    context.fillRect(x - 0.36 * perSecond, LANE, 0.9 * perSecond, height - LANE);
    context.globalAlpha = 1;
  }
}

/**
 * How wide a strip is at 25 mm/s, in CSS pixels.
 * @param {Strip} strip
 */
export function stripWidth(strip) {
  return Math.ceil((strip.samples.length / strip.rate_hz) * 25 * MM);
}

/**
 * @typedef {{x: number, y: number, isMarked?: boolean}} Point
 * @typedef {{points: Point[], from: number, until: number, least: number, line: boolean}} Chart
 */

/**
 * Draw a chart over time.
 * @param {HTMLCanvasElement} canvas
 * @param {Chart} chart
 */
export function drawChart(canvas, chart) {
  const { context, width, height } = prepare(canvas);
  const left = 40;
  const bottom = height - 18;
  const values = chart.points.map((point) => point.y).filter((value) => !Number.isNaN(value));
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colours.dim;
  if (values.length === 0) {
    context.fillText("nothing heard in this time", left, height / 2);
    return;
  }
  const { low, high, step } = scaleOf(values, chart.least);
  const y = (/** @type {number} */ value) => bottom - ((value - low) / (high - low)) * (bottom - 8);
  const x = (/** @type {number} */ time) =>
    left + ((time - chart.from) / (chart.until - chart.from)) * (width - left - 8);
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.strokeStyle = colours.gridStrong;
  context.beginPath();
  for (let tick = low; tick <= high + step / 2; tick += step) {
    context.fillText(String(Math.round(tick * 100) / 100), left - 6, y(tick));
    context.moveTo(left, Math.round(y(tick)) + 0.5);
    context.lineTo(width - 8, Math.round(y(tick)) + 0.5);
  }
  context.stroke();
  drawTimes(context, chart, x, width, height);
  if (chart.line) drawLine(context, chart.points, x, y);
  else drawDots(context, chart.points, x, y);
}

/**
 * @param {number[]} values
 * @param {number} range
 */
function scaleOf(values, range) {
  const spare = Math.max(0, range - (Math.max(...values) - Math.min(...values))) / 2;
  const least = Math.max(0, Math.min(...values) - spare);
  const most = Math.max(...values) + spare;
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
  const step = steps.find((one) => (most - least) / one <= 4) ?? 100;
  const low = Math.floor(least / step) * step;
  return { low, high: Math.max(low + step, Math.ceil(most / step) * step), step };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Chart} chart
 * @param {(time: number) => number} x
 * @param {number} width
 * @param {number} height
 */
function drawTimes(context, chart, x, width, height) {
  context.textBaseline = "alphabetic";
  const count = Math.max(2, Math.min(6, Math.floor(width / 130)));
  for (let i = 0; i < count; i++) {
    const time = chart.from + ((chart.until - chart.from) * i) / (count - 1);
    context.textAlign = i === 0 ? "left" : i === count - 1 ? "right" : "center";
    context.fillText(clock(time).slice(0, chart.until - chart.from > 1800 ? 5 : 8), x(time), height - 3);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Point[]} points
 * @param {(time: number) => number} x
 * @param {(value: number) => number} y
 */
function drawLine(context, points, x, y) {
  context.beginPath();
  let isDown = false;
  for (const point of points) {
    if (Number.isNaN(point.y)) {
      isDown = false;
      continue;
    }
    if (isDown) context.lineTo(x(point.x), y(point.y));
    else context.arc(x(point.x), y(point.y), 0.8, 0, 7);
    isDown = true;
  }
  context.strokeStyle = colours.signal;
  context.lineWidth = 1.6;
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Point[]} points
 * @param {(time: number) => number} x
 * @param {(value: number) => number} y
 */
function drawDots(context, points, x, y) {
  for (const point of points) {
    if (Number.isNaN(point.y)) continue;
    context.fillStyle = point.isMarked ? colours.mark : colours.signal;
    const size = point.isMarked ? 5 : 3;
    context.fillRect(x(point.x) - size / 2, y(point.y) - size / 2, size, size);
  }
}
