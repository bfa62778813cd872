// Packets on their way to the monitor: each is kept until the monitor's acknowledgement covers it, and sent again over a
// new connection. The page's server publishes them; see monitor/page/phones.py.

const AGAIN_MS = [300, 1000, 2000, 5000];
/** Packets of half a second: half an hour. */
const MOST_KEPT = 3600;

/**
 * @typedef {{ device: string, rate_hz: number, lead: string, resolution_uv: number, first_seen_s: number }} Hello
 */

export class Uplink {
  /**
   * @param {Hello} hello
   * @param {(text: string, isGood: boolean) => void} onState
   * @param {() => void} onChange
   */
  constructor(hello, onState, onChange) {
    this.hello = hello;
    this.onState = onState;
    this.onChange = onChange;
    /** @type {{ seq: number, text: string }[]} */
    this.kept = [];
    this.seq = 0;
    this.dropped = 0;
    this.failures = 0;
    this.isReady = false;
    this.isWanted = true;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.connect();
  }

  /**
   * Send samples.
   * @param {number} start_s
   * @param {Int32Array} samples_uv
   */
  send(start_s, samples_uv) {
    const samples = Array.from(samples_uv, (one) =>
      Math.max(-32767, Math.min(32767, Math.round(one / this.hello.resolution_uv))),
    );
    const packet = { seq: this.seq++, start_s, rate_hz: this.hello.rate_hz, samples };
    const one = { seq: packet.seq, text: JSON.stringify(packet) };
    this.kept.push(one);
    if (this.kept.length > MOST_KEPT) {
      this.kept.shift();
      this.dropped++;
    }
    if (this.isReady) this.socket?.send(one.text);
    this.onChange();
  }

  stop() {
    this.isWanted = false;
    this.socket?.close();
  }

  connect() {
    const url = new URL("/phone/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send(JSON.stringify(this.hello));
    socket.onmessage = (event) => this.take(JSON.parse(event.data));
    socket.onclose = (event) => this.onClose(event);
    this.socket = socket;
  }

  /** @param {{ ready?: boolean, ack?: { seq: number }, error?: { text: string } }} message */
  take(message) {
    if (message.ready) {
      this.isReady = true;
      this.failures = 0;
      this.onState("connected to the monitor's page", true);
      for (const one of this.kept) this.socket?.send(one.text);
    }
    const seq = message.ack?.seq ?? 0;
    if (seq <= this.seq) this.kept = this.kept.filter((one) => one.seq >= seq); // else it is of another stream
    if (message.error) this.onState(`the monitor says: ${message.error.text}`, false);
    this.onChange();
  }

  /** @param {CloseEvent} event */
  onClose(event) {
    this.isReady = false;
    if (!this.isWanted) return;
    if (event.code === 4403 || event.code === 4401) {
      this.isWanted = false;
      this.onState(event.reason || "This login may not stream.", false);
      return;
    }
    this.onState(event.reason || "no connection to the page's server; trying again …", false);
    setTimeout(() => this.connect(), AGAIN_MS[Math.min(this.failures++, AGAIN_MS.length - 1)]);
  }
}
