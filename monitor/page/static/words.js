// What things are called, and how times and numbers are written.

export const RANKS = /** @type {Record<string, number>} */ ({ high: 3, medium: 2, low: 1, technical: 0 });
/** Priorities are told by mark and word as well as by colour (IEC 60601-1-8 knows the same marks). */
export const MARKS = /** @type {Record<string, string>} */ ({ high: "!!!", medium: "!!", low: "!", technical: "⚙" });
export const CONNECTIONS = /** @type {Record<string, string>} */ ({
  streaming: "live",
  "lead-off": "electrode off",
  silent: "no signal",
  offline: "offline",
});
const CLASSES = /** @type {Record<string, string>} */ ({
  N: "normal",
  S: "supraventricular",
  V: "ventricular",
  F: "fusion",
  Q: "unknown",
});
const REASONS = /** @type {Record<string, string>} */ ({
  gone: "the device is gone",
  "end-not-heard": "answered later; its end was not heard",
  "lead-off": "the electrode came off",
});

/** @param {string} kind */
export function kindName(kind) {
  return sentence(kind.replaceAll("-", " "));
}

/** @param {string} words */
export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** @param {string} label */
export function className(label) {
  return label in CLASSES ? `${label} ${CLASSES[label]}` : label;
}

/** @param {string | null | undefined} reason */
export function endReason(reason) {
  return reason ? (REASONS[reason] ?? `part of ${kindName(reason).toLowerCase()}`) : "";
}

/** @param {number} time_s */
export function clock(time_s) {
  return new Date(time_s * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });
}

/**
 * What a device's clock shows, where that is not what ours does.
 * @param {number} time_s
 */
export function ownClock(time_s) {
  return `its clock: ${new Date(time_s * 1000).toLocaleDateString()} ${clock(time_s)}`;
}

/**
 * A time; with its day, if that is not today's.
 * @param {number} time_s
 * @param {number} now_s
 */
export function day(time_s, now_s) {
  const date = new Date(time_s * 1000);
  const isToday = date.toDateString() === new Date(now_s * 1000).toDateString();
  return isToday ? clock(time_s) : `${date.toLocaleDateString()} ${clock(time_s)}`;
}

/**
 * A length of time, short.
 * @param {number} seconds
 */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d`;
}

/** @param {number | null | undefined} bpm */
export function rate(bpm) {
  return bpm === null || bpm === undefined ? "––" : String(Math.round(bpm));
}

/** @param {number} share */
export function percent(share) {
  return `${Math.round(100 * share)} %`;
}
