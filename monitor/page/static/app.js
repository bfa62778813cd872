// The page: header, alarms that nobody has answered, and one view at a time.

import { h, fill, setText, setAttribute } from "./dom.js";
import { deviceName, link } from "./link.js";
import { readColours } from "./sweep.js";
import { Sound } from "./sound.js";
import { badge } from "./pieces.js";
import { openFleet } from "./fleet.js";
import { openDevice } from "./device.js";
import { openAlerts } from "./alerts.js";
import { byUrgency, headline, isOpen, latchedOf, latchedOfDevices } from "./urgency.js";
import { openTrial } from "./trial.js";
import { openMonitor } from "./monitor.js";

const MOST_ALARMS = 12;
const VIEWS = /** @type {[string, string, (argument: string) => View][]} */ ([
  ["fleet", "Fleet", openFleet],
  ["alerts", "Alerts", openAlerts],
  ["try", "Try", openTrial],
  ["monitor", "Monitor", openMonitor],
  ["device", "", openDevice],
]);
const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const header = /** @type {HTMLElement} */ (document.getElementById("header"));
const alarms = /** @type {HTMLElement} */ (document.getElementById("alarms"));
const sound = new Sound();
/** @type {View | null} */
let view = null;
let shownAlarms = "";

function show() {
  const [name, argument] = location.hash.replace(/^#\//, "").split("/");
  const found = VIEWS.find(([one]) => one === name) ?? VIEWS[0];
  view?.close();
  view = found[2](decodeURIComponent(argument ?? ""));
  fill(main, [view.element]);
  document.title = `${view.title} – ecgwatch`;
  for (const anchor of header.querySelectorAll("nav a")) {
    if (anchor.getAttribute("href") === `#/${found[0]}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

const health = h("span", { class: "health", role: "status" });

function buildHeader() {
  const anchors = VIEWS.filter(([, title]) => title).map(([name, title]) => h("a", { href: `#/${name}` }, title));
  const soundButton = h("button", { "aria-pressed": false });
  const nameSound = () => {
    setText(soundButton, sound.isOn ? "♪ sound on" : "♪ sound off");
    setAttribute(soundButton, "aria-pressed", String(sound.isOn));
    setAttribute(soundButton, "aria-label", `${soundButton.textContent}: for alerts of high priority`);
  };
  nameSound();
  soundButton.addEventListener("click", () => {
    sound.set(!sound.isOn);
    nameSound();
    sound.ring();
  });
  const themeButton = h("button", { title: "Light or dark", "aria-label": "Light or dark" }, "◐");
  themeButton.addEventListener("click", () =>
    setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light"),
  );
  const tools = h("div", { class: "tools" }, health, soundButton, themeButton);
  if (link.session?.login) {
    tools.append(
      h(
        "button",
        { title: `${link.session.user}, ${link.session.role}`, onclick: logOut },
        `Log out ${link.session.user}`,
      ),
    );
  }
  fill(header, [h("span", { class: "brand" }, "ecgwatch"), h("nav", { "aria-label": "Views" }, ...anchors), tools]);
}

async function logOut() {
  await link.post("/api/logout", "");
  location.assign("/login");
}

/** @param {string} theme */
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  readColours();
  window.dispatchEvent(new Event("resize"));
}

/**
 * Which monitors are away, while another is there, and how many devices nobody watches for that.
 * @param {Row[]} rows
 */
function awayText(rows) {
  if (link.unwatched || Object.keys(link.watchNews.away).length === 0) return "";
  const counts = /** @type {Map<string, number>} */ (new Map());
  for (const row of rows) {
    const why = link.unwatchedOf(row)?.why;
    if (why) counts.set(why, (counts.get(why) ?? 0) + 1);
  }
  return [...counts].map(([why, count]) => `${why}: ${count} device${count === 1 ? "" : "s"} not watched`).join(", ");
}

function updateHealth() {
  const monitors = Object.values(link.monitors);
  const online = monitors.filter((status) => status.state !== "offline");
  const overloaded = online.some((status) => status.state === "overloaded");
  const fault = online.map((status) => status.broker_fault ?? status.fault).find((one) => one);
  const { unwatched } = link;
  const overdue = link.watchNews.overdue;
  const away = awayText([...link.rows.values()]);
  let text = "";
  if (unwatched) text = unwatched.why;
  else if (away) text = away;
  else if (overdue.length) text = `the monitor ${overdue.join(", ")} does not answer`;
  else if (overloaded) text = "the monitor is overloaded: alerts come late";
  else if (fault) text = fault;
  setAttribute(health, "data-state", text ? "bad" : "ok");
  setText(health, text || "monitor online");
}

/** Show what nobody has answered or seen, and sound for what is high and active. */
function updateAlarms() {
  const open = [...link.alerts.values()].filter((alert) => isOpen(alert) && alert.severity !== "technical");
  const urgent = open.filter((alert) => alert.severity !== "low").sort(byUrgency);
  if (urgent.some((alert) => alert.severity === "high")) sound.ring();
  const unseen = [...latchedOfDevices().keys()].flatMap((device) => latchedOf(device).slice(0, 1));
  const all = [...urgent, ...unseen];
  const shown = all.slice(0, MOST_ALARMS);
  const key = all.map((alert) => [alert.episode, alert.severity, alert.ended_s]).join();
  if (key !== shownAlarms) {
    shownAlarms = key;
    const more =
      all.length > MOST_ALARMS && h("a", { class: "alarm", href: "#/alerts" }, `${all.length - MOST_ALARMS} more`);
    fill(alarms, [...shown.map(alarmOf), more]);
  }
  shown.forEach((alert, i) => {
    const { what, when } = headline(alert);
    const text = alarms.children[i].lastElementChild;
    if (text) setText(text, `${what} · ${deviceName(alert.device)} · ${when}`);
  });
}

/** @param {Episode} alert */
function alarmOf(alert) {
  return h(
    "a",
    { class: "alarm", href: `#/alerts/${encodeURIComponent(alert.episode)}` },
    badge(alert.severity, { flashes: alert.severity === "high" && !alert.ended_s, isQuiet: Boolean(alert.ended_s) }),
    h("span", {}),
  );
}

async function start() {
  const theme =
    localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  document.documentElement.dataset.theme = theme;
  readColours();
  await link.open();
  buildHeader();
  show();
  window.addEventListener("hashchange", () => {
    show();
    main.focus();
  });
  for (const topic of /** @type {const} */ (["link", "monitors", "rows"])) link.on(topic, updateHealth);
  for (const topic of /** @type {const} */ (["alerts", "rows"])) link.on(topic, updateAlarms);
  setInterval(updateAlarms, 2000);
  updateHealth();
}

start();
