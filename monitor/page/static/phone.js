// A phone that stands in for a wearable: a strap by Bluetooth on one side, the monitor on the other.

import { setText } from "./dom.js";
import { Clock, RATE_HZ, Strap } from "./polar.js";
import { Uplink } from "./uplink.js";

const SHOWN_S = 5;
const NAME = /^[A-Za-z0-9_-]{1,58}$/;

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
function find(id) {
  return /** @type {T} */ (document.getElementById(id));
}

const form = /** @type {HTMLFormElement} */ (find("form"));
const input = /** @type {HTMLInputElement} */ (find("name"));
const start = /** @type {HTMLButtonElement} */ (find("start"));
const stop = /** @type {HTMLButtonElement} */ (find("stop"));
const canvas = /** @type {HTMLCanvasElement} */ (find("strip"));
/** @type {number[]} */
let shown = [];
/** @type {Strap | null} */
let strap = null;
/** @type {Uplink | null} */
let uplink = null;

/**
 * @param {string} id
 * @returns {(text: string, isGood: boolean) => void}
 */
function teller(id) {
  return (text, isGood) => {
    setText(find(id), text);
    find(id).dataset.state = isGood ? "ok" : "bad";
  };
}

function update() {
  if (!uplink) return;
  const lost = uplink.dropped ? `, ${uplink.dropped} lost` : "";
  setText(find("packets"), `${uplink.seq} packets, ${uplink.kept.length} not yet acknowledged${lost}`);
  const battery = strap?.battery;
  setText(find("battery"), battery === null || battery === undefined ? "" : `battery ${battery} %`);
}

function draw() {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const most = SHOWN_S * RATE_HZ;
  shown = shown.slice(-most);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const low = Math.min(...shown);
  const high = Math.max(low + 1000, ...shown);
  pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--signal");
  pen.lineWidth = 2;
  pen.beginPath();
  shown.forEach((value, i) =>
    pen.lineTo((i / most) * canvas.width, canvas.height * (0.95 - (0.9 * (value - low)) / (high - low))),
  );
  pen.stroke();
}

/** A phone that sleeps hears nothing. */
async function stayAwake() {
  try {
    await navigator.wakeLock?.request("screen");
  } catch {
    // The browser may refuse; the page says to keep it open.
  }
}

/** @param {SubmitEvent} event */
async function onStart(event) {
  event.preventDefault();
  const name = input.value.trim();
  if (!NAME.test(name)) {
    teller("strap")("A name has 1 to 58 letters, digits, - and _.", false);
    return;
  }
  localStorage.setItem("phone", name);
  const clock = new Clock();
  const made = new Strap((frame) => {
    uplink ??= new Uplink(
      { device: `phone-${name}`, rate_hz: RATE_HZ, lead: "ECG", resolution_uv: 1, first_seen_s: Date.now() / 1000 },
      teller("link"),
      update,
    );
    uplink.send(clock.start_s(frame, Date.now() / 1000), frame.samples_uv);
    shown.push(...frame.samples_uv);
    requestAnimationFrame(draw);
  }, teller("strap"));
  start.disabled = true;
  try {
    await made.choose();
    strap = made;
    stop.disabled = false;
    input.disabled = true;
    /** @type {HTMLAnchorElement} */ (find("device")).href = `/#/device/phone-${name}`;
    find("device").hidden = false;
    await stayAwake();
  } catch (error) {
    start.disabled = false;
    teller("strap")(`No strap: ${error instanceof Error ? error.message : error}`, false);
  }
}

function onStop() {
  strap?.stop();
  uplink?.stop();
  location.reload();
}

function explain() {
  if (navigator.bluetooth) return;
  start.disabled = true;
  const why = window.isSecureContext
    ? "This browser has no Web Bluetooth: open this page in Chrome or Edge, on Android or a computer."
    : "Bluetooth needs HTTPS: serve the page with --page-certificate, or open it on the machine itself.";
  teller("strap")(why, false);
}

document.documentElement.dataset.theme =
  localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
input.value = localStorage.getItem("phone") ?? `h10-${Math.random().toString(36).slice(2, 6)}`;
form.addEventListener("submit", onStart);
stop.addEventListener("click", onStop);
document.addEventListener("visibilitychange", () => !document.hidden && strap && stayAwake());
explain();
