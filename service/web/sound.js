// Sound in the browser: a recording that grows while it is spoken, played as it grows, kept as WAV.
// It knows nothing of HTTP, and nothing of the page.

const PEAK_SECONDS = 0.02; // one bar's worth; finer than any screen shows
const FIRST_CUSHION = 0.12; // seconds of speech that are there before the first is heard
const LARGEST_CUSHION = 1; // seconds; it doubles each time the speech ran dry
const AHEAD = 4; // seconds that are scheduled; a hidden page's timers run once a second
const PIECE = 1; // seconds at most in one buffer
const DELAY = 0.03; // seconds between scheduling and sound: enough for a busy page
const PUMP_MS = 50;

/** 16-bit mono speech, as far as it has come. */
export class Recording {
  frames = 0;
  ended = false;
  /** The loudest of each 20 ms, 0 to 1. */
  peaks = [];
  #samples;
  #half = null; // the first byte of a sample whose second has not come yet

  constructor(rate) {
    this.rate = rate;
    this.#samples = new Int16Array(rate * 8);
  }

  get seconds() {
    return this.frames / this.rate;
  }

  append(bytes) {
    const whole = this.#joined(bytes);
    const view = new DataView(whole.buffer, whole.byteOffset, whole.byteLength);
    const count = whole.byteLength >> 1;
    this.#reserve(this.frames + count);
    const bucket = Math.round(this.rate * PEAK_SECONDS);
    for (let i = 0; i < count; i++) {
      const sample = view.getInt16(i * 2, true);
      const at = this.frames + i;
      this.#samples[at] = sample;
      const peak = Math.floor(at / bucket);
      this.peaks[peak] = Math.max(this.peaks[peak] ?? 0, Math.abs(sample) / 32768);
    }
    this.frames += count;
  }

  end() {
    this.ended = true;
    this.#samples = this.#samples.slice(0, this.frames);
  }

  /** Give at most so many samples from a place on, -1 to 1. */
  read(from, most) {
    const part = this.#samples.subarray(from, Math.min(from + most, this.frames));
    return Float32Array.from(part, (sample) => sample / 32768);
  }

  /** Give the recording as a WAV file of true sizes. */
  wav() {
    const size = this.frames * 2;
    const header = new DataView(new ArrayBuffer(44));
    const word = (at, letters) =>
      [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
    word(0, "RIFF");
    header.setUint32(4, 36 + size, true);
    word(8, "WAVEfmt ");
    header.setUint32(16, 16, true);
    header.setUint16(20, 1, true); // PCM
    header.setUint16(22, 1, true); // mono
    header.setUint32(24, this.rate, true);
    header.setUint32(28, this.rate * 2, true);
    header.setUint16(32, 2, true);
    header.setUint16(34, 16, true);
    word(36, "data");
    header.setUint32(40, size, true);
    // Every browser's machine of today is little-endian, as WAV is.
    return new Blob([header, this.#samples.subarray(0, this.frames)], { type: "audio/wav" });
  }

  #joined(bytes) {
    const joined = this.#half === null ? bytes : new Uint8Array([this.#half, ...bytes]);
    this.#half = joined.length % 2 ? joined[joined.length - 1] : null;
    return joined;
  }

  #reserve(frames) {
    if (frames <= this.#samples.length) return;
    const larger = new Int16Array(Math.max(frames, this.#samples.length * 2));
    larger.set(this.#samples.subarray(0, this.frames));
    this.#samples = larger;
  }
}

/**
 * Plays a recording, also one that still grows: waits for a cushion, goes on where it ran dry.
 *
 * sounds(milliseconds until it is heard, whether for the first time) is called each time it begins
 * or goes on, dry() each time it waits for more, ended(whether to its end) once.
 */
export class Playback {
  #context;
  #recording;
  #gain;
  #timer;
  #spans = []; // {at: seconds of the context, from and until: frames of the recording}
  #sources = new Set();
  #from = 0; // frames that are scheduled
  #next = 0; // seconds of the context at which they end
  #dry = true;
  #cushion = FIRST_CUSHION;
  #told;

  constructor(context, recording, told) {
    this.#context = context;
    this.#recording = recording;
    this.#told = told;
    this.#gain = new GainNode(context);
    this.#gain.connect(context.destination);
    this.#timer = setInterval(() => this.pump(), PUMP_MS);
    this.pump();
  }

  /** Frames of the recording that have been heard. */
  get position() {
    const now = this.#context.currentTime - (this.#context.outputLatency || 0);
    const span = this.#spans.findLast(({ at }) => at <= now);
    if (!span) return 0;
    return Math.min(span.from + (now - span.at) * this.#recording.rate, span.until);
  }

  /** Schedule what has come. Called by a timer, and at will when something came. */
  pump() {
    if (this.#timer === null) return;
    const { rate, frames, ended } = this.#recording;
    const all = ended && this.#from === frames;
    if (this.#dry) {
      if (all) return this.#finish(true);
      if (!ended && (frames - this.#from) / rate < this.#cushion) return;
      this.#begin();
    } else if (this.#context.currentTime >= this.#next) {
      if (all) return this.#finish(true);
      this.#dry = true;
      this.#cushion = Math.min(this.#cushion * 2, LARGEST_CUSHION);
      this.#told.dry();
      return this.pump();
    }
    while (this.#from < frames && this.#next - this.#context.currentTime < AHEAD) this.#schedule();
  }

  /** Fall silent at once, without a click. */
  stop() {
    if (this.#timer === null) return;
    const now = this.#context.currentTime;
    this.#gain.gain.setTargetAtTime(0, now, 0.01);
    for (const source of this.#sources) source.stop(now + 0.06);
    this.#finish(false);
  }

  #begin() {
    this.#dry = false;
    this.#next = this.#context.currentTime + DELAY;
    const untilHeard = DELAY + (this.#context.outputLatency || 0);
    this.#told.sounds(untilHeard * 1000, this.#from === 0);
  }

  #schedule() {
    const { rate } = this.#recording;
    const samples = this.#recording.read(this.#from, PIECE * rate);
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#gain);
    source.onended = () => this.#sources.delete(source);
    source.start(this.#next);
    this.#sources.add(source);
    const until = this.#from + samples.length;
    this.#spans.push({ at: this.#next, from: this.#from, until });
    this.#from = until;
    this.#next += samples.length / rate;
  }

  #finish(whole) {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#told.ended(whole);
  }
}
