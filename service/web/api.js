// The service over HTTP: who can speak, which voices there are, and speech while it is being made.
// It knows nothing of the page, and nothing of how sound is played.

export const SAMPLE_RATE = 24_000; // Hz; what the model speaks at, so nothing is resampled on the way

/** What the service, or the way to it, refused: what happened, and what to do next. */
export class Refusal extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export class Service {
  /** What is shown as Bearer; empty: nothing is. */
  key = "";

  /** Give what /health says. It says it with 503, too, so the status is not looked at. */
  async health() {
    const answer = await this.#ask("health");
    return answer.json();
  }

  /** Give the personas: id, description. */
  async voices() {
    const answer = await accepted(await this.#ask("voices"));
    return (await answer.json()).voices;
  }

  /**
   * Have a text spoken. Gives who speaks once the first audio is there, and a reader of its bytes:
   * 16-bit little-endian mono at SAMPLE_RATE.
   */
  async speak(wanted, signal) {
    const answer = await accepted(
      await this.#ask("api/v1/generate", {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "audio/*" },
        body: JSON.stringify({
          ...wanted, stream: true, format: "pcm", sample_rate: SAMPLE_RATE,
        }),
        signal,
      }),
    );
    return { speaker: speakerOf(answer.headers), reader: answer.body.getReader() };
  }

  async #ask(path, options = {}) {
    const headers = { ...options.headers };
    if (this.key) headers.Authorization = `Bearer ${inBytes(this.key)}`;
    try {
      return await fetch(path, {
        ...options, headers, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, "The service does not answer", "see whether it runs, and the network");
    }
  }
}

async function accepted(answer) {
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const wait = answer.headers.get("Retry-After");
  const hint = [said.hint, wait && `try again in ${wait} s`].filter(Boolean).join("; ");
  throw new Refusal(answer.status, said.error ?? `The service answered ${answer.status}`, hint);
}

function speakerOf(headers) {
  const timing = headers.get("Server-Timing") ?? "";
  const duration = (name) => {
    const found = timing.match(new RegExp(`\\b${name};dur=([0-9.]+)`));
    return found && Number(found[1]);
  };
  return {
    engine: headers.get("X-Speech-Engine"),
    voice: headers.get("X-Speech-Voice"),
    substitution: headers.get("X-Speech-Substitution")?.replace(/^[^=]*=/, ""),
    attempts: headers.get("X-Speech-Attempts"),
    queueMs: duration("queue"),
    firstAudioMs: duration("first_audio"),
  };
}

/** A header takes bytes only: a key of other letters goes as its UTF-8. */
function inBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
