// The messages of the page's WebSocket and of its JSON, as monitor/page sends them.

type Severity = "high" | "medium" | "low" | "technical";
type Connection = "streaming" | "lead-off" | "silent" | "offline";

interface Silence {
  kind: string | null;
  until_s: number;
  by: string;
  reason: string;
}

interface Row {
  id: string;
  name?: string | null;
  connection?: Connection;
  heart_rate_bpm?: number | null;
  rhythm?: string | null;
  judged?: number | null;
  alerts?: string[];
  silenced?: Silence[];
  limits?: Record<string, Record<string, number>>;
  seen_s?: number;
  /** Its clock minus the server's. */
  ahead_s?: number;
  monitor?: string | null;
  has_state?: boolean;
}

interface Step {
  state: string;
  time_s: number;
  by?: string | null;
  text?: string | null;
  right?: boolean | null;
}

interface Episode {
  episode: string;
  device: string;
  kind: string;
  severity: string;
  since_s: number;
  time_s: number;
  text?: string;
  ended_s?: number | null;
  reason?: string | null;
  beats?: number;
  label?: string | null;
  probability?: number | null;
  heart_rate_bpm?: number | null;
  model?: string | null;
  acknowledged_by?: string | null;
  acknowledged_s?: number | null;
  silenced?: boolean;
  right?: boolean | null;
  has_strip?: boolean;
  steps?: Step[];
}

interface Beat {
  device: string;
  qrs_s: number;
  r_peak_s: number;
  verdict: string;
  label: string | null;
  reason: string | null;
  rr_s: number | null;
}

interface MonitorStatus {
  state: string;
  version: string;
  model: string;
  since_s: number;
  limits?: Record<string, Record<string, number>>;
  counts: Record<string, number>;
  devices: number;
  streaming: number;
  lead_off: number;
  silent: number;
  unsettled: number;
  lateness_s: number | null;
  behind_s: number;
  fault: string | null;
  broker_fault: string | null;
  fleet: string | null;
  processes: number;
  partitions: number;
}

interface WatchNews {
  watched: boolean;
  watched_s: number | null;
  overdue: string[];
  away: Record<string, { how: "offline" | "overdue" | "doubtful"; since_s: number | null }>;
}

interface Strip {
  start_s: number;
  rate_hz: number;
  unit: "uV" | "step";
  samples: (number | null)[];
  beats?: { time_s: number; label: string | null; verdict: string | null }[];
}

interface AlertDetail {
  alert: Episode;
  strips: { new?: Strip; end?: Strip; beat?: Strip };
}

interface DeviceDetail {
  trend: {
    bin_s: number;
    newest_s: number;
    bpm: (number | null)[];
    beats: [number, number | null, string][];
    classes: Record<string, number>;
    reasons: Record<string, number>;
  };
  info: { rate_hz: number; lead: string; resolution_uv: number } | null;
  hours: Hour[];
}

/** What a device's heart did in an hour, from the monitor's history. */
interface Hour {
  start_s: number;
  beats: Record<string, number>;
  bpm: number | null;
}

/** A limit that can be set for a device. */
interface Limit {
  kind: string;
  name: string;
  usual: number;
  low: number;
  high: number;
  is_whole: boolean;
  own: number | null;
}

interface Session {
  user: string;
  role: "viewer" | "responder";
  csrf: string;
  login: boolean;
}

interface ModelInfo {
  name: string;
  network: string;
  classes: string[];
  threshold: number;
  figures: Record<string, number>;
  context: string[];
}

interface Trial {
  model: string;
  threshold: number;
  classes: string[];
  rate_hz: number;
  probabilities: (number | null)[];
  names: (string | null)[];
  labels: number[] | null;
  waveforms: string;
  lengths: number[];
  attention: number[][];
  step: number;
}

interface Analysis {
  files: {
    lead: string | null;
    rate_hz: number;
    seconds: number;
    signal_s: number;
    notes: string[];
    model: string;
    counts: Record<string, number>;
    heart_rate_bpm: { mean: number | null };
    alerts: { kind: string; severity: string; begin_s: number; end_s: number | null; text: string }[];
  }[];
}

/** A view: what it shows, and how it is taken down. */
interface View {
  element: HTMLElement;
  title: string;
  close(): void;
}

// As much of Web Bluetooth as is used: browsers have it, the compiler's library does not.

interface BluetoothRemoteGATTCharacteristic extends EventTarget {
  value?: DataView;
  oncharacteristicvaluechanged: (() => void) | null;
  readValue(): Promise<DataView>;
  startNotifications(): Promise<unknown>;
  writeValueWithResponse(value: BufferSource): Promise<void>;
}

interface BluetoothRemoteGATTService {
  getCharacteristic(name: string): Promise<BluetoothRemoteGATTCharacteristic>;
}

interface BluetoothRemoteGATTServer {
  connected: boolean;
  connect(): Promise<BluetoothRemoteGATTServer>;
  disconnect(): void;
  getPrimaryService(name: string): Promise<BluetoothRemoteGATTService>;
}

interface BluetoothDevice extends EventTarget {
  name?: string;
  gatt?: BluetoothRemoteGATTServer;
}

interface Navigator {
  bluetooth?: {
    requestDevice(options: { filters: { namePrefix: string }[]; optionalServices: string[] }): Promise<BluetoothDevice>;
  };
}
