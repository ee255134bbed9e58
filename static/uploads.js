// The form of the front page: files go up by the tus protocol (vendor/tus), two at a time, in the order they were chosen,
// each with a row of its own. What breaks off goes on where it was: by itself after a lost connection, after a reloaded
// page once the same file is chosen again. While the box takes nothing, files wait outside the two lanes, and one of them
// asks again when the list says that there is room, when the time comes that the box told, or when a person says so.

import { remind, remindNoMore, unfinished, known, recall, beside, dropLinks } from "./left.js";
import { begin, isChosen, need } from "./models.js";
import { Row, percent, put, size, soon, span } from "./rows.js";

const ENDPOINT = new URL("/api/v1/uploads", location).href;
// Proxies that cap a request's size or time see only slices.
const SLICE = 32 * 1024 * 1024;
const AT_ONCE = 2;
// Seconds between tries while the connection is lost; the last one is repeated.
const DELAYS = [1, 2, 5, 10, 20, 30];
// Why the box takes nothing now, by the codes of its refusals: it is asked again.
const CLOSED = {
  queue_full: "The box is full",
  key_limit: "You have as many recordings under way as you may",
  memory_pressure: "The box is short of memory",
  paused: "The box is paused",
  draining: "The box takes nothing new",
  disk_full: "The disk of the box is almost full",
  storage_failing: "The disk of the box can't be written",
};
// Unexpected answers of the box in a row before a person is asked.
const PATIENCE = 5;

const form = document.querySelector("#submit");
const drop = document.querySelector("#drop");
const input = document.querySelector("#file");
const list = document.querySelector("#uploads");
const note = document.querySelector("#sending-note");
const maxBytes = Number(form.dataset.maxBytes);
// Files not yet sent, in order, and those being sent.
const waiting = [];
const sending = new Set();
// Addresses of those that this page sends.
const mine = new Set();
let numbers = 0;

// Why the box takes nothing, as `closed` has it; null while it does.
let gate = null;
// The upload that asks for a place: one at a time, so that they get theirs in order and the first refusal holds them all.
let probe = null;
// In a row: the list may say that there is room where others take it first.
let refusals = 0;

// until: when to ask again, by the box's word; again: from when on the list's word that there is room counts. After it
// has said that there is none, that is at once.
function closed(code, seconds) {
  const now = Date.now();
  const told = code in CLOSED && code !== "key_limit";
  const until = now + seconds * 1000;
  refusals++;
  htmx.trigger("#jobs", "refresh");
  return { why: CLOSED[code] ?? "The box is busy", until, told, again: told ? now + 1000 * Math.min(60, 2 ** refusals) : until };
}

class Upload extends Row {
  constructor(file, batch = "") {
    super(file.name);
    this.file = file;
    this.number = ++numbers;
    this.stop = null;
    this.stopped = false;
    this.tries = 0;
    this.sent = 0;
    if (!(file instanceof Blob)) return;
    const metadata = { filename: file.name, filetype: file.type, model: form.elements.model.value, submit: "1" };
    if (form.elements.language.value) metadata.language = form.elements.language.value;
    if (batch) metadata.batch = batch;
    this.tus = new tus.Upload(file, {
      endpoint: ENDPOINT,
      chunkSize: SLICE,
      metadata,
      retryDelays: null,
      removeFingerprintOnSuccess: true,
      onUploadUrlAvailable: () => {
        known.add(this.tus.url);
        mine.add(this.tus.url);
        if (probe === this) probe = gate = null;
        if (!gate) refusals = 0;
        pump();
      },
      onProgress: (sent, total) => this.progress(sent, total),
      onSuccess: ({ lastResponse }) => this.settle?.({ done: true, job: lastResponse.getHeader("Stenobox-Job") }),
      onError: (error) => this.settle?.({ error }),
    });
  }

  enqueue() {
    waiting.push(this);
    waiting.sort((one, other) => one.number - other.number);
    this.tell();
    pump();
  }

  // Why it isn't being sent.
  tell() {
    const held = this.stop?.until > Date.now() ? this.stop : gate;
    if (!isChosen()) this.show("waiting", "Waiting for the choice of a model", { cancel: "Cancel" });
    else if (!held || probe) this.show("waiting", `Waiting · ${size(this.file.size)}`, { cancel: "Cancel" });
    else this.show("backoff", `${held.why}; trying again ${soon(held.until)}`, { now: "", cancel: "Give up" });
  }

  now() {
    this.number = Math.min(...waiting.map((upload) => upload.number)) - 1;
    waiting.sort((one, other) => one.number - other.number);
    this.stop = null;
    if (gate) gate.until = 0;
    this.show("waiting", "Next to be sent", { cancel: "Cancel" });
    pump();
  }

  // The box takes nothing now: back into line, at its old place.
  hold(code, seconds) {
    const stop = closed(code, seconds);
    // Something smaller may still have room on the disk.
    if (code === "disk_full") this.stop = stop;
    else gate = stop;
    this.held = true;
  }

  fail(message, retryable = false) {
    this.show("failed", message, retryable ? { retry: "Try again", cancel: "Dismiss" } : { cancel: "Dismiss" });
  }

  retry() {
    this.tries = 0;
    this.enqueue();
  }

  pause() {
    this.paused = true;
    leave(this);
    this.tus.abort();
    this.settle?.({});
    this.wake?.();
    this.show("paused", `Paused at ${percent(this.sent, this.file.size)}`, { resume: "Resume", cancel: "Cancel" });
  }

  resume() {
    this.paused = false;
    this.enqueue();
  }

  cancel() {
    this.stopped = true;
    leave(this);
    // Also what an earlier try left on the box; once it has become a job the list has it.
    this.tus?.abort(true).catch(() => {});
    this.settle?.({});
    this.wake?.();
    this.remove();
  }

  get idle() {
    return this.stopped || this.paused;
  }

  // Sends until the box has it all, refuses it for good, or a person stops it.
  async run() {
    this.held = false;
    while (!this.idle) {
      const { done, job, error } = await this.send();
      if (this.idle) return;
      const id = job ?? (done && (await this.became()));
      if (this.idle) return;
      if (id) return this.accepted(id.split("/").at(-1));
      if (done) {
        if (this.tries++ < PATIENCE) await this.wait("The box is asked what became of it", 2, "Cancel");
        else return this.fail("The box has this file, but its answer got lost on the way. Look for it in the list.", true);
        continue;
      }
      const answer = error?.originalResponse;
      const status = answer?.getStatus() ?? 0;
      if ([429, 503, 507].includes(status)) {
        return this.hold(refusal(answer).code, Number(answer.getHeader("Retry-After")) || 5);
      } else if (status === 401) {
        await this.wait("You were logged out; asking again", 3, "Cancel");
      } else if (status === 0) {
        await this.wait("The connection is lost; going on", DELAYS[Math.min(this.tries++, DELAYS.length - 1)], "Cancel");
      } else if (([408, 409, 423, 460].includes(status) || status >= 500) && this.tries++ < PATIENCE) {
        await this.wait("The upload was interrupted; going on", 2, "Cancel");
      } else {
        return this.fail(refusal(answer).message ?? `The box answered with an error (${status}).`, status >= 500 || status === 410);
      }
    }
  }

  // The job that it is, where a proxy has dropped the header that says so; its upload's address tells.
  async became() {
    const answer = await fetch(this.tus.url, { headers: { Accept: "application/json" } }).catch(() => null);
    return answer?.ok ? (await answer.json().catch(() => ({}))).job : null;
  }

  async send() {
    this.samples = [];
    this.show("sending", `Starting · ${size(this.file.size)}`, { pause: "Pause", cancel: "Cancel" });
    if (!this.tus.url && !this.looked) {
      this.looked = true;
      const earlier = (await this.tus.findPreviousUploads()).find((one) => !mine.has(one.uploadUrl));
      if (earlier) {
        this.tus.resumeFromPreviousUpload(earlier);
        for (const row of unfinished) if (row.stored.uploadUrl === earlier.uploadUrl) row.remove();
      }
    }
    if (this.idle) return {};
    const end = await new Promise((resolve) => {
      this.settle = resolve;
      this.tus.start();
    });
    this.settle = null;
    return end;
  }

  progress(sent, total) {
    if (sent > this.sent) this.tries = 0;
    this.sent = sent;
    this.bar.value = sent / total;
    if (this.idle) return;
    if (sent === total) return this.show("sending", "Sent. The box is storing it…", { cancel: "Cancel" });
    // The rate of the last seconds, not of the whole upload: it follows a connection that changes.
    const { samples } = this;
    samples.push({ at: performance.now(), sent });
    while (samples.length > 2 && samples.at(-1).at - samples[0].at > 4000) samples.shift();
    const seconds = (samples.at(-1).at - samples[0].at) / 1000;
    const rate = seconds > 0.25 ? (sent - samples[0].sent) / seconds : 0;
    const parts = [percent(sent, total)];
    if (rate > 0) parts.push(`${size(rate)}/s`, `${span((total - sent) / rate)} left`);
    this.show("sending", parts.join(" · "), { pause: "Pause", cancel: "Cancel" });
  }

  async wait(why, seconds, cancel) {
    const end = Date.now() + seconds * 1000;
    this.hurry = false;
    while (!this.idle && !this.hurry && Date.now() < end) {
      this.show("lost", `${why} ${soon(end)}`, { pause: "Pause", cancel });
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, Math.min(1000, end - Date.now()));
      });
    }
  }

  accepted(id) {
    this.show("accepted", "Handed over");
    this.id = id;
    arriving.add(this);
    setTimeout(() => this.arrive(), 5000); // a job that came and went between two polls never shows
    htmx.trigger("#jobs", "refresh");
  }

  arrive() {
    arriving.delete(this);
    this.remove();
  }
}

const arriving = new Set();
document.addEventListener("htmx:before:settle", () => {
  for (const upload of arriving) if (document.getElementById(`job-${upload.id}`)) upload.arrive();
});

// Code and sentence.
function refusal(answer) {
  try {
    return JSON.parse(answer.getBody()).error ?? {};
  } catch {
    return {}; // a proxy's own page
  }
}

// Takes an upload out of line and out of the lanes, whichever it is in.
function leave(upload) {
  const at = waiting.indexOf(upload);
  if (at >= 0) waiting.splice(at, 1);
  sending.delete(upload);
  if (probe === upload) probe = null;
  pump();
}

function pump() {
  const now = Date.now();
  for (const upload of [...waiting]) {
    if (!isChosen() || sending.size >= AT_ONCE || probe || gate?.until > now) break;
    if (upload.stop?.until > now) continue;
    waiting.splice(waiting.indexOf(upload), 1);
    probe = upload;
    launch(upload);
  }
  summarise();
}

async function launch(upload) {
  sending.add(upload);
  upload.tus.options.metadata.model ||= form.elements.model.value;
  await upload.run();
  if (!sending.delete(upload)) return; // a person took it out
  if (probe === upload) probe = null;
  if (upload.held) upload.enqueue();
  else pump();
}

// Each second: whether what waits may go, and how long it still has to.
function tick() {
  if (!waiting.length) return;
  const now = Date.now();
  const room = document.querySelector("#jobs").hasAttribute("data-room");
  for (const stop of [gate, ...waiting.map((upload) => upload.stop)]) {
    if (!stop?.told) continue;
    if (!room) stop.again = 0;
    else if (stop.again <= now) stop.until = 0;
  }
  pump();
  for (const upload of waiting) upload.tell();
}
setInterval(tick, 1000);

// What holds the page, in a sentence above the rows.
function summarise() {
  const held = gate && !probe ? waiting.length : 0;
  const root = document.documentElement;
  root.toggleAttribute("data-sending", busy());
  if (held) {
    const files = held === 1 ? "One file waits here and is" : `${held} files wait here and are`;
    put(note, `${gate.why}. ${files} sent as soon as there is room. Keep this page open: links open in a new tab.`);
  } else {
    put(note, busy() ? "Keep this page open until they are sent: links open in a new tab." : "");
  }
  note.hidden = !note.textContent;
}

function busy() {
  return sending.size + waiting.length > 0;
}

// Several files at once are a batch, named by the reader's own date and time.
const named = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function add(files) {
  const taken = [...files].filter((file) => file.size > 0 && file.size <= maxBytes);
  const batch = taken.length > 1 ? named.format(new Date()) : "";
  for (const file of files) {
    const upload = new Upload(file, batch);
    if (file.size > maxBytes) upload.fail(`This file is ${size(file.size)}; the box takes up to ${size(maxBytes)}.`);
    else if (file.size === 0) upload.fail("This file is empty.");
    else upload.enqueue();
    remindNoMore(file);
  }
  if (taken.length) need();
  beside(form.elements.url?.value.trim());
  document.querySelector("#tray").scrollIntoView({ block: "nearest" });
}

addEventListener("online", () => {
  for (const upload of sending) {
    upload.hurry = true;
    if (upload.row.dataset.kind === "lost") upload.wake?.();
  }
});

form.addEventListener("submit", (event) => {
  if (event.submitter?.hasAttribute("formaction")) return; // the link's button
  event.preventDefault();
  add(input.files);
  input.value = "";
});
// Not by the form's own check: a model that is still to be chosen is asked for here.
input.addEventListener("change", () => {
  add(input.files);
  input.value = "";
});

addEventListener("beforeunload", (event) => {
  if (busy()) event.preventDefault();
});

// A page that sends is not left by a click.
document.addEventListener(
  "click",
  (event) => {
    const link = event.target.closest("a[href]");
    if (!link || !busy() || link.target || link.hasAttribute("download") || link.hash) return;
    link.target = "_blank";
    setTimeout(() => link.removeAttribute("target"));
  },
  true,
);
document.addEventListener("submit", (event) => {
  const { target, submitter } = event;
  if (event.defaultPrevented || target.hasAttribute("hx-post") || !target.closest("#main")) return;
  target.target = busy() ? "_blank" : "";
  if (submitter?.id === "fetch") dropLinks();
});

// The whole window takes a drop: missing the zone by an inch must not open the file in place of this page.
let depth = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
function over(change) {
  depth = Math.max(0, change === 0 ? 0 : depth + change);
  drop.classList.toggle("over", depth > 0);
}
addEventListener("dragenter", (event) => carriesFiles(event) && over(1));
addEventListener("dragleave", (event) => carriesFiles(event) && over(-1));
addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  over(0);
  const folder = [...event.dataTransfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  if (folder) return new Upload({ name: "A folder" }).fail("Folders can't be sent: drop the recordings inside it.");
  add(event.dataTransfer.files);
});

// The drop zone comes first, for the keyboard too; the plain form needs it last.
form.prepend(document.querySelector("#drop-field"));
begin(pump);
recall();
remind(
  // What has begun is on the box, and comes back by its address.
  () => [...waiting, ...sending].filter((upload) => !upload.tus.url).map((upload) => upload.file),
);
