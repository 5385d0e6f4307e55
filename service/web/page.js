// The page: what is typed becomes speech, and it shows who spoke, how soon, and who could speak.

import { BADGES } from "./badges.js";
import { Refusal, SAMPLE_RATE, Service } from "./api.js";
import { Playback, Recording } from "./sound.js";
import { Waveform } from "./waveform.js";

const LONGEST_TEXT = 5_000; // characters; what the service takes
const CHARACTERS_A_SECOND = 14; // of speech at speed 1; only for how wide the waveform begins
const KEPT = 5; // utterances
const CALM_MS = 15_000; // between two looks at a voice that speaks
const EAGER_MS = 3_000; // and at one that is loading or offline
const KEY_NAME = "sesame-key";

const EXAMPLES = {
  Greeting: "Good morning. It is quiet here, and there is time.",
  Numbers: "The train leaves at 7:45 and costs €12.50, so bring exact change.",
  Question: "Would you like to hear how the day began, or how it ended?",
  Pause: 'Breathe in. <break time="900ms"/> And slowly out again.',
};
const STATES = {
  ready: "ready",
  loading: "loading",
  open: "resting after failures",
  latched: "stopped until mended",
  off: "off",
};
const STATUS = { idle: "Ready.", waiting: "Thinking of how to say it …", speaking: "Speaking." };

const byId = (id) => document.getElementById(id);
const service = new Service();
const waveform = new Waveform(byId("waveform"));
const lately = []; // {recording, row}, newest first
let context = null; // made at the first gesture: browsers let no page make sound before
let current = null; // {abort, playback}

// What is said

async function speak() {
  hush();
  const text = byId("text").value.trim();
  if (!text) return fail(new Refusal(0, "There is nothing to say", "type a few words"));
  const turn = { abort: new AbortController(), playback: null };
  current = turn;
  const recording = new Recording(SAMPLE_RATE);
  const pressed = performance.now();
  let speaker = null;
  begin();
  try {
    context ??= new AudioContext({ sampleRate: SAMPLE_RATE });
    await context.resume();
    const answer = await service.speak(wanted(text), turn.abort.signal);
    speaker = answer.speaker;
    showSpeaker(speaker);
    play(turn, recording, text, (untilHeard) =>
      showTime("First heard", performance.now() - pressed + untilHeard));
    await take(answer.reader, recording, turn);
    remember(text, speaker, recording, "");
  } catch (error) {
    recording.end();
    if (recording.frames) remember(text, speaker, recording, cutOffNote(error));
    if (error.name === "AbortError") return;
    if (current === turn) {
      turn.playback?.stop();
      current = null;
      fail(error instanceof Refusal ? error : brokenOff());
      if (error.status === 401) askForKey({ refused: service.key !== "", then: speak });
    }
  } finally {
    look();
  }
}

async function take(reader, recording, turn) {
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    recording.append(value);
    turn.playback.pump();
  }
  recording.end();
  turn.playback.pump();
  if (current === turn) showTime("Length", recording.seconds * 1000);
}

function wanted(text) {
  const said = { text, voice: chosenVoice(), speed: Number(byId("speed").value) };
  for (const field of ["temperature", "seed"]) {
    if (byId(field).value !== "") said[field] = Number(byId(field).value);
  }
  return said;
}

function play(turn, recording, text, heard = () => {}) {
  const expected = text.length / CHARACTERS_A_SECOND / Number(byId("speed").value);
  turn.playback = new Playback(context, recording, {
    sounds: (untilHeard, first) => {
      if (first) heard(untilHeard);
      enter("speaking");
    },
    dry: () => enter("waiting", "Waiting for the rest …"),
    ended: (whole) => {
      if (current === turn && whole) {
        current = null;
        enter("idle", `Said: ${seconds(recording.seconds)} of speech.`);
      }
      if (current === null || current === turn) waveform.rest();
    },
  });
  const { playback } = turn;
  waveform.follow(recording, () => playback.position, expected);
  byId("waveform").setAttribute("aria-label", "The waveform of what is heard");
}

/** Stop what is heard, and the work for it: the service sees that nobody listens any more. */
function hush() {
  if (!current) return;
  const { abort, playback } = current;
  current = null;
  abort.abort();
  playback?.stop();
  waveform.rest();
  enter("idle", "Stopped.");
}

function cutOffNote(error) {
  return error.name === "AbortError" ? "stopped" : "broke off";
}

function brokenOff() {
  return new Refusal(0, "The voice broke off", "what was heard is kept below; speak again for the rest");
}

// What is shown

function begin() {
  byId("trouble").hidden = true;
  byId("spoken").hidden = true;
  enter("waiting");
  showStage();
}

/** On a phone the waveform is below what can be seen. */
function showStage() {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector(".stage").scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

function enter(state, status = STATUS[state]) {
  document.body.dataset.state = state;
  byId("status").textContent = status;
  const busy = state === "waiting" || state === "speaking";
  byId("speak").textContent = busy ? "Stop" : "Speak";
}

function fail(refusal) {
  enter("failed", "Nothing is spoken.");
  const [what, next] = byId("trouble").children;
  what.textContent = sentence(refusal.message);
  next.textContent = refusal.hint ? sentence(refusal.hint) : "";
  byId("trouble").hidden = false;
  showStage();
}

function showSpeaker(speaker) {
  const box = byId("spoken");
  box.dataset.engine = speaker.engine;
  showBadge(byId("spoke"), badgeOf(speaker.engine));
  box.querySelector("dl").replaceChildren();
  showFact("Voice", named(speaker.voice));
  if (speaker.substitution) showFact("Stood in", speaker.substitution);
  if (!/^\w+=ok$/.test(speaker.attempts ?? "")) showFact("Tried", speaker.attempts);
  if (speaker.queueMs >= 1) showTime("Waited in line", speaker.queueMs);
  if (speaker.firstAudioMs !== null) showTime("First made", speaker.firstAudioMs);
  box.hidden = false;
  showStage();
}

function showFact(term, value) {
  const [pair, dt, dd] = ["div", "dt", "dd"].map((name) => document.createElement(name));
  dt.textContent = term;
  dd.textContent = value;
  pair.append(dt, dd);
  byId("spoken").querySelector("dl").append(pair);
}

function showTime(term, milliseconds) {
  showFact(term, milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : seconds(milliseconds / 1000));
}

function showBadge(place, { icon, label }) {
  [place.children[0].textContent, place.children[1].textContent] = [icon, label];
}

function badgeOf(engine) {
  return BADGES[engine] ?? { icon: "⚪", label: engine };
}

const seconds = (count) => `${count.toFixed(1)} s`;
const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? "" : "."}`;
const named = (voice) => (voice ? voice[0].toUpperCase() + voice.slice(1) : "");

// What was said lately

function remember(text, speaker, recording, note) {
  const row = byId("utterance-template").content.firstElementChild.cloneNode(true);
  const [words, facts] = row.querySelectorAll("p");
  const badge = badgeOf(speaker.engine);
  words.textContent = text;
  facts.textContent = [
    `${badge.icon} ${badge.label}`, named(speaker.voice), seconds(recording.seconds), note,
  ].filter(Boolean).join(" · ");
  const kept = { recording, row };
  const acts = {
    replay: () => replay(text, recording),
    download: () => download(recording, speaker.voice),
    drop: () => forget(kept),
  };
  for (const button of row.querySelectorAll("button")) {
    button.setAttribute("aria-label", `${button.textContent}: ${text.slice(0, 60)}`);
    button.addEventListener("click", acts[button.dataset.act]);
  }
  lately.unshift(kept);
  byId("lately").prepend(row);
  lately.splice(KEPT).forEach((old) => old.row.remove());
}

function replay(text, recording) {
  hush();
  current = { abort: new AbortController(), playback: null };
  byId("trouble").hidden = true;
  enter("waiting");
  showStage();
  play(current, recording, text);
}

function download(recording, voice) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(recording.wav());
  link.download = `${voice}.wav`;
  link.click();
  // The browser has taken it by the time the next task runs.
  setTimeout(() => URL.revokeObjectURL(link.href), 1_000);
}

function forget(kept) {
  const next = kept.row.nextElementSibling ?? kept.row.previousElementSibling;
  lately.splice(lately.indexOf(kept), 1);
  kept.row.remove();
  (next?.querySelector("button") ?? byId("text")).focus();
}

// Who can speak

let timer = null;
let voicesAreMissing = false; // for want of an answer, not of a key

async function look() {
  clearTimeout(timer);
  let calm = false;
  try {
    const health = await service.health();
    calm = health.status === "healthy" || health.status === "degraded";
    showHealth(health, calm);
    if (voicesAreMissing) await listVoices();
  } catch (error) {
    showBadge(byId("standing"), { icon: "🔴", label: "No answer" });
    showNotice(byId("outage"), `${sentence(error.message)} ${sentence(error.hint ?? "")}`);
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, calm ? CALM_MS : EAGER_MS);
}

function showHealth(health, speaks) {
  showBadge(byId("standing"), health.badge);
  byId("standing").dataset.status = health.status;
  byId("rungs").replaceChildren(...health.engines.map(rung));
  showNotice(byId("outage"), speaks ? "" : outage(health));
  const warnings = (health.warnings ?? []).map((warning) => {
    const item = document.createElement("li");
    item.textContent = warning;
    return item;
  });
  byId("warnings").replaceChildren(...warnings);
  byId("warnings").hidden = warnings.length === 0;
  const slow = health.real_time_factor > 1 && "slower than it speaks";
  byId("about").textContent = [
    health.model, health.device, health.precision, slow, `version ${health.version}`,
  ].filter(Boolean).join(" · ");
}

function outage({ status, progress, engines, engine }) {
  if (status === "loading") {
    const meanwhile = engine ? `. Meanwhile ${badgeOf(engine).label} speaks` : "";
    return `The model is loading${progress ? `: ${progress}` : ""}${meanwhile}.`;
  }
  return engines.length
    ? "The voice is offline: nothing below can speak now."
    : "The voice is offline: nothing is set up that could speak.";
}

function rung({ name, state, reason }) {
  const row = byId("rung-template").content.firstElementChild.cloneNode(true);
  const [icon, label, standing, why] = row.children;
  const badge = badgeOf(name);
  row.dataset.state = state;
  icon.textContent = badge.icon;
  label.textContent = badge.label;
  standing.textContent = STATES[state] ?? state;
  why.textContent = reason ?? "";
  return row;
}

function showNotice(place, words) {
  if (place.textContent !== words) place.textContent = words;
  place.hidden = !words;
}

// Which voices there are

async function listVoices() {
  try {
    const voices = await service.voices();
    voicesAreMissing = false;
    byId("voices").replaceChildren(...voices.map(choice));
  } catch (error) {
    if (error.status === 401) {
      byId("voices").textContent = "They are listed once the key is given.";
      return askForKey({ refused: service.key !== "", then: listVoices });
    }
    voicesAreMissing = true;
    byId("voices").textContent = `${sentence(error.message)} ${sentence(error.hint ?? "")}`;
  }
}

function choice({ id, description }, index) {
  const row = byId("voice-template").content.firstElementChild.cloneNode(true);
  const [button, name, about] = row.children;
  button.value = id;
  button.checked = id === "maya" || index === 0;
  name.textContent = named(id);
  about.textContent = (description ?? "").replace(/^[^:]{1,30}: /, "");
  return row;
}

function chosenVoice() {
  return document.querySelector("input[name=voice]:checked")?.value;
}

// The key

let afterKey = null;

function askForKey({ refused, then }) {
  afterKey = then;
  byId("key-refused").textContent = refused ? "This key was refused." : "";
  byId("key").setAttribute("aria-invalid", String(refused));
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
  byId("key").select();
}

async function useKey(event) {
  event.preventDefault();
  service.key = byId("key").value.trim();
  sessionStorage.removeItem(KEY_NAME);
  try {
    await service.voices();
  } catch (error) {
    if (error.status === 401) return askForKey({ refused: true, then: afterKey });
  }
  if (byId("key-keep").checked) sessionStorage.setItem(KEY_NAME, service.key);
  byId("key").value = "";
  byId("key-dialog").close();
  byId("trouble").hidden = true;
  if (!chosenVoice()) await listVoices();
  if (afterKey !== listVoices) afterKey();
}

// What a person does

function showCount() {
  const count = [...byId("text").value.trim()].length;
  byId("counter").textContent = `${count.toLocaleString("en")} of ${LONGEST_TEXT.toLocaleString("en")}`;
  byId("counter").dataset.over = String(count > LONGEST_TEXT);
}

function showSpeed() {
  byId("speed-shown").textContent = `${Number(byId("speed").value).toFixed(2)}×`;
}

function example([name, text]) {
  const [item, button] = ["li", "button"].map((tag) => document.createElement(tag));
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", () => {
    byId("text").value = text;
    showCount();
    byId("text").focus();
  });
  item.append(button);
  return item;
}

function onKey(event) {
  if (byId("key-dialog").open) return;
  if (event.key === "Escape") hush();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (byId("composer").reportValidity()) speak();
  }
}

document.querySelector(".examples").append(...Object.entries(EXAMPLES).map(example));
if (/Mac|iPhone|iPad/.test(navigator.platform)) byId("chord").textContent = "⌘";
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (current) hush();
  else speak();
});
// What is wrong in a closed fold could not be shown.
byId("composer").addEventListener("invalid", () => (byId("more").open = true), true);
byId("text").addEventListener("input", showCount);
byId("speed").addEventListener("input", showSpeed);
byId("key-form").addEventListener("submit", useKey);
byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));

service.key = sessionStorage.getItem(KEY_NAME) ?? "";
showCount();
showSpeed();
look();
listVoices();
