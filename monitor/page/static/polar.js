// A chest strap of Polar's by Web Bluetooth: its measurement service, as Polar's "Measurement Data Specification for 3rd
// party" has it; the same as gateway/polar.py and recordings/polar.py.

export const SERVICE = "fb005c80-02e7-f387-1cad-8acd2d8df0c8";
export const CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8";
export const DATA = "fb005c82-02e7-f387-1cad-8acd2d8df0c8";
/** Request to stream ECG at 130 Hz with 14 bits. */
export const START_ECG = new Uint8Array([0x02, 0x00, 0x00, 0x01, 0x82, 0x00, 0x01, 0x01, 0x0e, 0x00]);
export const RATE_HZ = 130;
const HEAD = 10;
const EPOCH_S = 946_684_800; // 1 January 2000, UTC: where the straps' clocks begin
const AGAIN_MS = [500, 1000, 2000, 5000];
const WATCH_MS = 5000;

/**
 * Decode a frame of ECG: samples in microvolts, and the time of the last one by the strap's clock.
 * @param {DataView} frame
 * @returns {{ last_s: number, samples_uv: Int32Array }}
 */
export function decodeFrame(frame) {
  const size = frame.byteLength - HEAD;
  if (size < 3 || size % 3 || frame.getUint8(0) !== 0 || frame.getUint8(9) !== 0) {
    throw new Error(`This is no frame of ECG in 24 bits: got ${frame.byteLength} bytes.`);
  }
  const samples_uv = Int32Array.from({ length: size / 3 }, (_, i) => {
    const at = HEAD + 3 * i;
    return frame.getUint8(at) | (frame.getUint8(at + 1) << 8) | (frame.getInt8(at + 2) << 16);
  });
  return { last_s: EPOCH_S + Number(frame.getBigUint64(1, true)) / 1e9, samples_uv };
}

/**
 * Puts frames on this device's clock, which the strap's may be years off.
 */
export class Clock {
  constructor() {
    /** @type {number | null} */
    this.offset_s = null;
  }

  /**
   * Time of a frame's first sample.
   * @param {{ last_s: number, samples_uv: Int32Array }} frame
   * @param {number} arrived_s
   */
  start_s(frame, arrived_s) {
    this.offset_s ??= arrived_s - frame.last_s;
    return frame.last_s + this.offset_s - (frame.samples_uv.length - 1) / RATE_HZ;
  }
}

/**
 * A strap that is read; it is connected again when it goes away.
 */
export class Strap {
  /**
   * @param {(frame: { last_s: number, samples_uv: Int32Array }) => void} onFrame
   * @param {(text: string, isGood: boolean) => void} onState
   */
  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    /** @type {BluetoothDevice | null} */
    this.device = null;
    /** @type {number | null} */
    this.battery = null;
    this.failures = 0;
    this.heard_ms = 0;
    this.isWanted = false;
    this.isConnecting = false;
  }

  /** Let the person choose a strap, and read it. */
  async choose() {
    if (!navigator.bluetooth) throw new Error("no Web Bluetooth");
    const device = await navigator.bluetooth.requestDevice({
      filters: [{ namePrefix: "Polar" }],
      optionalServices: [SERVICE, "battery_service"],
    });
    this.device = device;
    this.isWanted = true;
    device.addEventListener("gattserverdisconnected", () => this.again());
    setInterval(() => this.look(), 1000);
    await this.connect();
  }

  stop() {
    this.isWanted = false;
    this.device?.gatt?.disconnect();
  }

  async connect() {
    if (!this.device?.gatt || !this.isWanted || this.isConnecting) return;
    this.isConnecting = true;
    this.onState(`connecting to ${this.device.name ?? "the strap"} …`, false);
    try {
      const server = await this.device.gatt.connect();
      await this.readBattery(server);
      await this.listen(server);
      this.failures = 0;
      this.onState(`${this.device.name ?? "strap"} connected`, true);
    } catch (error) {
      this.onState(`Bluetooth: ${error instanceof Error ? error.message : error}`, false);
      this.isConnecting = false;
      this.again();
    }
    this.isConnecting = false;
  }

  /** @param {BluetoothRemoteGATTServer} server */
  async listen(server) {
    const service = await server.getPrimaryService(SERVICE);
    const data = await service.getCharacteristic(DATA);
    data.oncharacteristicvaluechanged = () => data.value && this.take(data.value);
    await data.startNotifications();
    const control = await service.getCharacteristic(CONTROL);
    await control.startNotifications();
    this.heard_ms = performance.now();
    await control.writeValueWithResponse(START_ECG);
  }

  /** @param {BluetoothRemoteGATTServer} server */
  async readBattery(server) {
    try {
      const service = await server.getPrimaryService("battery_service");
      const level = await service.getCharacteristic("battery_level");
      this.battery = (await level.readValue()).getUint8(0);
    } catch {
      this.battery = null; // it goes on without
    }
  }

  /** @param {DataView} value */
  take(value) {
    this.heard_ms = performance.now();
    try {
      this.onFrame(decodeFrame(value));
    } catch (error) {
      this.onState(String(error), false);
    }
  }

  /** A connection over which nothing comes is made anew. */
  look() {
    if (this.device?.gatt?.connected && this.heard_ms && performance.now() - this.heard_ms > WATCH_MS) {
      this.heard_ms = performance.now();
      this.device.gatt.disconnect();
    }
  }

  again() {
    if (!this.isWanted || this.isConnecting) return;
    this.onState("the strap is away; connecting again …", false);
    setTimeout(() => this.connect(), AGAIN_MS[Math.min(this.failures++, AGAIN_MS.length - 1)]);
  }
}
