// The sound of high priority: off until it is clicked, since browsers play none before, and people should choose it.

const AGAIN_MS = 6000;
/** Ten pulses in two groups, as IEC 60601-1-8 has it for high priority: 3 + 2, twice. */
const PULSES_S = [0, 0.15, 0.3, 0.6, 0.75, 1.5, 1.65, 1.8, 2.1, 2.25];

export class Sound {
  constructor() {
    this.isOn = false;
    this.last_ms = 0;
    /** @type {AudioContext | null} */
    this.audio = null;
  }

  /** @param {boolean} isOn */
  set(isOn) {
    this.isOn = isOn;
    this.audio ??= new AudioContext();
    if (isOn) this.audio.resume();
  }

  /** Sound, unless it did just now. */
  ring() {
    const now_ms = performance.now();
    if (!this.isOn || !this.audio || now_ms - this.last_ms < AGAIN_MS) return;
    this.last_ms = now_ms;
    for (const pulse_s of PULSES_S) this.pulse(this.audio, this.audio.currentTime + 0.05 + pulse_s);
  }

  /**
   * @param {AudioContext} audio
   * @param {number} at_s
   */
  pulse(audio, at_s) {
    const volume = audio.createGain();
    volume.gain.setValueAtTime(0, at_s);
    volume.gain.linearRampToValueAtTime(0.25, at_s + 0.02);
    volume.gain.setValueAtTime(0.25, at_s + 0.09);
    volume.gain.linearRampToValueAtTime(0, at_s + 0.11);
    volume.connect(audio.destination);
    for (const hertz of [523, 1046, 1569, 2092]) {
      const tone = audio.createOscillator();
      tone.frequency.value = hertz;
      tone.connect(volume);
      tone.start(at_s);
      tone.stop(at_s + 0.12);
    }
  }
}
