// What needs a person, and how much: alerts that nobody has answered, those that are over without having been seen, and
// devices that send nothing.

import { link } from "./link.js";
import { RANKS, day, kindName, span } from "./words.js";

const TROUBLES = /** @type {Record<string, number>} */ ({ "lead-off": 13, silent: 12, offline: 11 });
const UNWATCHED = 10;
/** A grave alert that is over stays up so long, unless somebody has seen it. */
const LATCHED_S = 12 * 3600;
const NOT_HEARD = "end-not-heard";
const LATCHED = 19;
/** From here on a device has an alert that nobody has answered. */
export const UNANSWERED = 20;

/**
 * Whether somebody has silenced an alert.
 * @param {Row | undefined} row
 * @param {Episode} alert
 */
export function isSilenced(row, alert) {
  const now_s = link.now_s();
  return (row?.silenced ?? []).some(
    (silence) => silence.until_s > now_s && (silence.kind === null || silence.kind === alert.kind),
  );
}

/**
 * Whether nobody has answered an alert that is still active.
 * @param {Episode} alert
 */
export function isOpen(alert) {
  return !alert.ended_s && !alert.acknowledged_by && !isSilenced(link.rows.get(alert.device), alert);
}

/**
 * Whether an alert of high priority is over, and nobody has seen it: at the bedside such alarms are latched, since what
 * passed in a minute still was asystole. Those that are part of a graver one are not.
 * @param {Episode} alert
 */
export function isLatched(alert) {
  if (!alert.ended_s || alert.severity !== "high" || alert.acknowledged_by || alert.silenced) return false;
  if (typeof alert.right === "boolean" || endedAgo_s(alert) > LATCHED_S) return false;
  const isContained = alert.reason && !["gone", "lead-off"].includes(alert.reason);
  return !isContained && alert.reason !== NOT_HEARD && !isSilenced(link.rows.get(alert.device), alert);
}

const latched = { version: -1, ofDevice: /** @type {Map<string, Episode[]>} */ (new Map()) };

/** Latched alerts by device, the latest first. */
export function latchedOfDevices() {
  if (latched.version !== link.alertsVersion) {
    latched.version = link.alertsVersion;
    latched.ofDevice = new Map();
    for (const alert of [...link.alerts.values()].filter(isLatched).sort((a, b) => endedAgo_s(a) - endedAgo_s(b))) {
      latched.ofDevice.set(alert.device, [...(latched.ofDevice.get(alert.device) ?? []), alert]);
    }
  }
  return latched.ofDevice;
}

/**
 * The latched alerts of a device that are still so.
 * @param {string} device
 */
export function latchedOf(device) {
  return (latchedOfDevices().get(device) ?? []).filter(isLatched);
}

/**
 * How much a device needs a person, the higher the more: unanswered alerts by priority, then grave ones that nobody has
 * seen, then devices that send nothing or that nobody watches, then answered alerts.
 * @param {Row} row
 */
export function need(row) {
  let most = TROUBLES[row.connection ?? "streaming"] ?? 0;
  if (most === 0 && link.unwatchedOf(row)) most = UNWATCHED;
  if (latchedOf(row.id).length > 0) most = LATCHED;
  for (const episode of row.alerts ?? []) {
    const alert = link.alerts.get(episode);
    if (!alert) continue;
    const rank = RANKS[alert.severity] ?? RANKS.medium;
    const isAnswered = Boolean(alert.acknowledged_by) || isSilenced(row, alert);
    most = Math.max(most, isAnswered ? 1 + rank : UNANSWERED + rank);
  }
  return most;
}

/**
 * @param {Episode} a
 * @param {Episode} b
 */
export function byUrgency(a, b) {
  return (RANKS[b.severity] ?? 2) - (RANKS[a.severity] ?? 2) || b.since_s - a.since_s;
}

/**
 * For how long an alert has been active.
 * @param {Episode} alert
 */
export function sinceBegin(alert) {
  return span(link.now_s() - link.time_s(alert.device, alert.since_s));
}

/** @param {Episode} alert */
function endedAgo_s(alert) {
  return link.now_s() - link.time_s(alert.device, alert.ended_s ?? 0);
}

/**
 * What an alert is, and since when or how long ago, in a few words.
 * @param {Episode} alert
 */
export function headline(alert) {
  const ago_s = alert.ended_s ? endedAgo_s(alert) : 0;
  const when = alert.ended_s
    ? `over ${ago_s < 3600 ? span(ago_s) : `${Math.floor(ago_s / 3600)} h`} ago`
    : sinceBegin(alert);
  return { what: kindName(alert.kind), when };
}

/**
 * When an alert began.
 * @param {Episode} alert
 */
export function began(alert) {
  return day(link.time_s(alert.device, alert.since_s), link.now_s());
}
