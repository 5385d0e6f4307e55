// Draws a recording as bars with a playhead. It knows nothing of who speaks, and of no time but the
// recording's.

const BAR = 3; // CSS pixels
const GAP = 2;
const PEAKS_A_SECOND = 50;
const SLOW_MS = 250; // between two pictures for who prefers less motion

export class Waveform {
  #canvas;
  #recording = null;
  #position = () => 0;
  #expected = 0; // seconds
  #frame = null;
  #drawn = 0; // when, in milliseconds
  #lessMotion = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Show a recording; expected is how many seconds it may become. Draws until rest() is called. */
  follow(recording, position, expected) {
    this.#recording = recording;
    this.#position = position;
    this.#expected = expected;
    this.#frame ??= requestAnimationFrame(this.#tick);
  }

  rest() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    this.draw();
  }

  draw() {
    const { width, height } = this.#fitted();
    const paint = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name);
    paint.clearRect(0, 0, width, height);
    const bars = Math.max(1, Math.floor((width + GAP) / (BAR + GAP)));
    const seconds = this.#shownSeconds();
    const played = seconds ? this.#position() / this.#recording.rate / seconds : 0;
    for (let bar = 0; bar < bars; bar++) {
      const peak = this.#peak(bar / bars, (bar + 1) / bars, seconds);
      const tall = peak === null ? BAR : Math.max(BAR, Math.min(1, peak * 1.25) * height);
      const is = peak === null ? "--wave-none" : bar / bars < played ? "--wave-played" : "--wave";
      paint.fillStyle = colour(is);
      paint.beginPath();
      paint.roundRect(bar * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
      paint.fill();
    }
    if (played > 0 && played < 1) {
      paint.fillStyle = colour("--playhead");
      paint.fillRect(played * width, 0, 1.5, height);
    }
  }

  #tick = (now) => {
    if (!this.#lessMotion.matches || now - this.#drawn >= SLOW_MS) {
      this.#drawn = now;
      this.draw();
    }
    this.#frame = requestAnimationFrame(this.#tick);
  };

  #fitted() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#canvas.width !== across || this.#canvas.height !== down) {
      this.#canvas.width = across;
      this.#canvas.height = down;
    }
    this.#canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    return { width, height };
  }

  #shownSeconds() {
    if (!this.#recording) return 0;
    const { seconds, ended } = this.#recording;
    return ended ? seconds : Math.max(seconds, this.#expected);
  }

  /** Give the loudest of a part of the picture; null where nothing has come. */
  #peak(from, until, seconds) {
    const peaks = this.#recording?.peaks ?? [];
    const first = Math.floor(from * seconds * PEAKS_A_SECOND);
    const last = Math.max(first + 1, Math.floor(until * seconds * PEAKS_A_SECOND));
    if (!seconds || first >= peaks.length) return null;
    let peak = 0;
    for (let i = first; i < Math.min(last, peaks.length); i++) peak = Math.max(peak, peaks[i]);
    return peak;
  }
}
