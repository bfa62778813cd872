// The page's one connection: what is known of devices, alerts and monitors, and the signal of what is shown.

import { Signal } from "./signal.js";

const AGAIN_MS = [300, 1000, 2000, 5000];
const LINGER_MS = 30_000;
const NOT = "not watched";
const DOUBTFUL = "watched? not known yet";
const HOWS = { offline: "is offline", overdue: "does not answer", doubtful: "has not answered yet" };

/**
 * @typedef {"rows" | "alerts" | "monitors" | "link" | "beats"} Topic
 * @typedef {(news: any) => void} Listener
 * @typedef {{why: string, what: string, since_s: number | null}} Unwatched Why, the same in a few words, and since when.
 */

class Link {
  constructor() {
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Map<string, Episode>} */
    this.alerts = new Map();
    /** Grows with each change of alerts. */
    this.alertsVersion = 0;
    /** @type {Record<string, MonitorStatus>} */
    this.monitors = {};
    /** @type {Map<string, Signal>} */
    this.signals = new Map();
    /** Whether the server is there, and whether it has a broker. */
    this.isOpen = false;
    this.hasBroker = false;
    /** Whether anybody is watched, as the server knows. */
    this.watchNews = /** @type {WatchNews} */ ({ watched: true, watched_s: null, overdue: [], away: {} });
    this.closed_s = 0;
    /** The server's time when it was last told, and when that was here. */
    this.told_s = Date.now() / 1000;
    this.told_ms = performance.now();
    /** @type {Session | null} */
    this.session = null;
    /** @type {Map<Topic, Set<Listener>>} */
    this.listeners = new Map();
    /** @type {Map<object, string[]>} */
    this.wishes = new Map();
    /** @type {Map<number, string>} */
    this.devices = new Map();
    /** @type {Map<string, number>} */
    this.left_ms = new Map();
    this.asked = "";
    this.failures = 0;
    this.wishTimer = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
  }

  async open() {
    await this.refreshSession();
    this.connect();
    document.addEventListener("visibilitychange", () => this.sendWish());
    setInterval(() => this.forgetSignals(), LINGER_MS / 2);
  }

  /** The server's time, whatever this machine's clock shows, and however somebody sets it meanwhile. */
  now_s() {
    return this.told_s + (performance.now() - this.told_ms) / 1000;
  }

  /**
   * By how much a device's clock is ahead of the server's; 0 if they are in step.
   * @param {string} device
   */
  ahead_s(device) {
    return this.rows.get(device)?.ahead_s ?? 0;
  }

  /**
   * When something was that has its device's time, by the server's clock.
   * @param {string} device
   * @param {number} time_s
   */
  time_s(device, time_s) {
    return time_s - this.ahead_s(device);
  }

  /**
   * Since when nobody is watched, as far as is known here: then what was last heard of a heart says nothing of now.
   * @returns {Unwatched | null}
   */
  get unwatched() {
    const { watched, watched_s: since_s, away } = this.watchNews;
    if (!this.isOpen) return { why: "no connection to the page's server", what: NOT, since_s: this.closed_s || null };
    if (!this.hasBroker) return { why: "no connection to the broker: nothing is heard", what: NOT, since_s };
    if (watched) return null;
    const hows = Object.values(away).map((one) => one.how);
    if (hows.includes("doubtful")) {
      const why = "not known yet whether anybody is watched: the monitor has been asked";
      return { why, what: DOUBTFUL, since_s };
    }
    const why = hows.includes("overdue") ? "the monitor does not answer" : "no monitor is online";
    return { why: `${why}: nobody is watched`, what: NOT, since_s };
  }

  /**
   * The same of one device, whose monitor may be away while others are there.
   * @param {Row | undefined} row
   * @returns {Unwatched | null}
   */
  unwatchedOf(row) {
    const monitor = row?.monitor;
    const all = this.unwatched;
    if (all || !monitor) return all;
    const away = this.watchNews.away[monitor];
    if (away) {
      const what = away.how === "doubtful" ? DOUBTFUL : NOT;
      return { why: `the monitor ${monitor} ${HOWS[away.how]}`, what, since_s: away.since_s };
    }
    if (monitor in this.monitors) return null;
    return { why: `no monitor ${monitor} is known here`, what: NOT, since_s: null };
  }

  /**
   * Be told of news; returns what ends that.
   * @param {Topic} topic
   * @param {Listener} listener
   */
  on(topic, listener) {
    const listeners = this.listeners.get(topic) ?? new Set();
    this.listeners.set(topic, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /**
   * Signal and beats of a device; they come while it is watched.
   * @param {string} device
   */
  signal(device) {
    const known = this.signals.get(device) ?? new Signal();
    this.signals.set(device, known);
    return known;
  }

  /**
   * Watch these devices on behalf of a view; none if it is closed.
   * @param {object} view
   * @param {string[]} devices
   */
  watch(view, devices) {
    if (devices.length) this.wishes.set(view, devices);
    else this.wishes.delete(view);
    clearTimeout(this.wishTimer);
    this.wishTimer = window.setTimeout(() => this.sendWish(), 60);
  }

  /** Ask for the signal of what is shown; of nothing while the page is hidden. */
  sendWish() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const wanted = document.hidden ? [] : [...new Set([...this.wishes.values()].flat())].slice(0, 64);
    const asked = JSON.stringify([...wanted].sort());
    if (asked === this.asked) return;
    this.asked = asked;
    this.socket.send(JSON.stringify({ watch: Object.fromEntries(wanted.map((id) => [id, this.signal(id).end_s])) }));
  }

  forgetSignals() {
    const wanted = new Set([...this.wishes.values()].flat());
    for (const device of this.signals.keys()) {
      if (wanted.has(device)) this.left_ms.delete(device);
      else if (!this.left_ms.has(device)) this.left_ms.set(device, Date.now());
      else if (Date.now() - (this.left_ms.get(device) ?? 0) > LINGER_MS) {
        this.signals.delete(device);
        this.left_ms.delete(device);
      }
    }
  }

  connect() {
    const url = new URL("/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.failures = 0;
      this.isOpen = true;
      this.asked = "";
      this.tell("link", null);
      this.sendWish();
    };
    socket.onmessage = (event) => this.take(event.data);
    socket.onclose = () => this.onClose();
    this.socket = socket;
  }

  onClose() {
    if (this.isOpen) this.closed_s = this.now_s();
    this.isOpen = false;
    this.tell("link", null);
    this.tell("rows", []);
    const wait_ms = AGAIN_MS[Math.min(this.failures++, AGAIN_MS.length - 1)];
    setTimeout(async () => {
      await this.refreshSession();
      this.connect();
    }, wait_ms);
  }

  /** Learn who is logged in; without a login, go and get one. */
  async refreshSession() {
    try {
      const answer = await fetch("/api/session");
      if (answer.status === 401) location.assign("/login");
      else if (answer.ok) this.session = await answer.json();
    } catch {
      // The server is away; it is asked again.
    }
  }

  /** @param {string | ArrayBuffer} data */
  take(data) {
    if (typeof data !== "string") {
      const frame = new DataView(data);
      const device = this.devices.get(frame.getUint16(2, true));
      if (device !== undefined) this.signal(device).take(frame, performance.now() / 1000);
      return;
    }
    const news = JSON.parse(data);
    if (news.now_s) [this.told_s, this.told_ms] = [news.now_s, performance.now()];
    if (news.numbers) for (const [device, number] of Object.entries(news.numbers)) this.devices.set(number, device);
    if (news.monitors) {
      this.monitors = news.monitors;
      this.hasBroker = news.broker;
      this.watchNews = news.watch;
      this.tell("monitors", null);
      this.tell("rows", []);
    }
    if (news.all) {
      // What follows is all that the server knows: what it knew before it was started again may be over.
      this.rows.clear();
      this.alerts.clear();
      this.tell("alerts", []);
    }
    if (news.alerts || news.all) this.alertsVersion++;
    if (news.alerts) {
      for (const alert of news.alerts) this.alerts.set(alert.episode, alert);
      this.tell("alerts", news.alerts);
    }
    if (news.rows || news.gone || news.all) {
      for (const row of news.rows ?? []) this.rows.set(row.id, row);
      for (const device of news.gone ?? []) this.rows.delete(device);
      this.tell("rows", news.rows ?? []);
    }
    if (news.beats) {
      for (const beat of news.beats) this.signal(beat.device).takeBeat(beat);
      this.tell("beats", news.beats);
    }
  }

  /**
   * @param {Topic} topic
   * @param {unknown} news
   */
  tell(topic, news) {
    for (const listener of this.listeners.get(topic) ?? []) listener(news);
  }

  /**
   * Ask for something.
   * @param {string} path
   * @returns {Promise<any>}
   */
  async get(path) {
    return answerOf(await fetch(path));
  }

  /**
   * Have something done; fails with the reason in words.
   * @param {string} path
   * @param {BodyInit} body
   * @returns {Promise<any>}
   */
  async post(path, body) {
    const send = () => fetch(path, { method: "POST", body, headers: { "X-CSRF-Token": this.session?.csrf ?? "" } });
    let answer = await send();
    if (answer.status === 403 && !this.session?.login) {
      await this.refreshSession();
      answer = await send();
    }
    return answerOf(answer);
  }

  /**
   * Ask the monitor something; see wire.Request.
   * @param {string} verb
   * @param {Record<string, unknown>} fields
   * @returns {Promise<string>}
   */
  async request(verb, fields) {
    const answer = await this.post(`/api/request/${verb}`, JSON.stringify({ ...fields, by: ownName() }));
    return answer.text;
  }

  get mayAnswer() {
    return this.session?.role === "responder";
  }
}

/** @param {Response} answer */
async function answerOf(answer) {
  if (answer.status === 401) location.assign("/login");
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(content.error ?? content.text ?? `The server answered ${answer.status}.`, content);
  return content;
}

/** What the server does not do, and why. */
export class Refused extends Error {
  /**
   * @param {string} message
   * @param {Record<string, unknown>} content The whole answer.
   */
  constructor(message, content) {
    super(message);
    this.content = content;
  }
}

/** Who answers alerts, where nobody logs in. */
export function ownName() {
  return localStorage.getItem("name") ?? "";
}

/** @param {string} name */
export function setOwnName(name) {
  localStorage.setItem("name", name.trim().slice(0, 56));
}

export const link = new Link();

/**
 * What to call a device.
 * @param {string} device
 */
export function deviceName(device) {
  return link.rows.get(device)?.name || device;
}
