// The form of the front page: files go up by the tus protocol (vendor/tus), two at a time, each with a row of its own.
// What breaks off goes on where it was: by itself after a lost connection, after a reloaded page once the same file is
// chosen again. A box that is full is asked again when it said to come back.

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
const template = document.querySelector("#upload-row");
const maxBytes = Number(form.dataset.maxBytes);
const waiting = [];
// Addresses of uploads with a row here, and of those that this page sends.
const known = new Set();
const mine = new Set();
let running = 0;

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 999.5 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes < 9.95 && unit ? bytes.toFixed(1).replace(/\.0$/, "") : Math.round(bytes)} ${units[unit]}`;
}

function span(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

class Row {
  constructor(name) {
    this.name = name;
    this.row = template.content.firstElementChild.cloneNode(true);
    this.bar = this.row.querySelector("progress");
    const title = this.row.querySelector("bdi");
    title.textContent = name;
    title.parentElement.title = name;
    this.bar.setAttribute("aria-label", `Upload of ${name}`);
    for (const button of this.row.querySelectorAll("[data-act]")) {
      button.setAttribute("aria-label", `${button.textContent} ${name}`);
      button.addEventListener("click", () => this[button.dataset.act]());
    }
    this.row.addEventListener("hurry", () => {
      this.hurry = true;
      this.wake?.();
    });
    list.append(this.row);
  }

  // acts: what a person can do now, with other words for it where needed: {pause: "", cancel: "Give up"}
  show(kind, text, acts = {}) {
    this.row.dataset.kind = kind;
    const state = this.row.querySelector(".upload-state");
    state.textContent = text;
    // What goes wrong is read out at once; progress is not, every second.
    state.toggleAttribute("role", false);
    if (kind === "failed") state.setAttribute("role", "alert");
    this.bar.hidden = !["sending", "paused", "lost", "unfinished"].includes(kind);
    for (const button of this.row.querySelectorAll("[data-act]")) {
      const words = acts[button.dataset.act];
      button.hidden = words === undefined;
      if (words && button.textContent !== words) {
        button.textContent = words;
        button.setAttribute("aria-label", `${words} ${this.name}`);
      }
    }
  }

  remove() {
    this.row.remove();
  }
}

class Upload extends Row {
  constructor(file, batch = "") {
    super(file.name);
    this.file = file;
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
      },
      onProgress: (sent, total) => this.progress(sent, total),
      onSuccess: ({ lastResponse }) => this.settle?.({ job: lastResponse.getHeader("Stenobox-Job") }),
      onError: (error) => this.settle?.({ error }),
    });
  }

  enqueue() {
    this.show("waiting", `Waiting · ${size(this.file.size)}`, { cancel: "Cancel" });
    waiting.push(this);
    pump();
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
    while (!this.idle) {
      const { job, error } = await this.send();
      if (this.idle) return;
      if (job) return this.accepted(job.split("/").at(-1));
      const answer = error?.originalResponse;
      const status = answer?.getStatus() ?? 0;
      if ([429, 503, 507].includes(status)) {
        const why = CLOSED[refusal(answer).code] ?? "The box is busy";
        await this.wait("backoff", why, Number(answer.getHeader("Retry-After")) || 5, "Give up");
      } else if (status === 0) {
        await this.wait("lost", "The connection is lost", DELAYS[Math.min(this.tries++, DELAYS.length - 1)], "Cancel");
      } else if (([408, 409, 423, 460].includes(status) || status >= 500) && this.tries++ < PATIENCE) {
        await this.wait("lost", "The upload was interrupted", 2, "Cancel");
      } else {
        return this.fail(refusal(answer).message ?? `The box answered with an error (${status}).`, status >= 500 || status === 410);
      }
    }
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

  async wait(kind, why, seconds, cancel) {
    const end = Date.now() + seconds * 1000;
    this.hurry = false;
    while (!this.idle && !this.hurry && Date.now() < end) {
      const left = Math.ceil((end - Date.now()) / 1000);
      const doing = kind === "lost" ? "going on" : "trying again";
      this.show(kind, `${why}; ${doing} in ${left} s`, kind === "lost" ? { pause: "Pause", cancel } : { cancel });
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

// What a page before this one left: it goes on once its file is chosen again, since no page may open files by itself.
class Unfinished extends Row {
  constructor(stored, offset) {
    super(stored.metadata.filename);
    this.stored = stored;
    this.bar.value = offset / stored.size;
    const sent = `${percent(offset, stored.size)} of ${size(stored.size)} sent before`;
    this.show("unfinished", `${sent}. Choose the same file again to go on.`, { choose: "Choose file", cancel: "Discard" });
    unfinished.add(this);
  }

  choose() {
    input.click();
  }

  cancel() {
    forget(this.stored);
    tus.Upload.terminate(this.stored.uploadUrl, { retryDelays: null }).catch(() => {});
    this.remove();
  }

  remove() {
    unfinished.delete(this);
    super.remove();
  }
}

const unfinished = new Set();
const arriving = new Set();
document.addEventListener("htmx:before:settle", () => {
  for (const upload of arriving) if (document.getElementById(`job-${upload.id}`)) upload.arrive();
});

function percent(sent, total) {
  return `${Math.floor((sent / total) * 100)}%`;
}

// Code and sentence.
function refusal(answer) {
  try {
    return JSON.parse(answer.getBody()).error ?? {};
  } catch {
    return {}; // a proxy's own page
  }
}

function forget(stored) {
  tus.defaultOptions.urlStorage.removeUpload(stored.urlStorageKey);
}

// Lists what earlier pages left unfinished; what is over is forgotten. One that moves belongs to another tab, or to the
// page before this one, whose end the box has not noticed yet: it is looked at again.
async function recall(looks = 4) {
  let active = false;
  for (const stored of await tus.defaultOptions.urlStorage.findAllUploads()) {
    if (!stored.uploadUrl || !stored.size) continue;
    const answer = await fetch(stored.uploadUrl, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer) return; // the box is away; what is stored stays
    if (answer.status === 404 || answer.status === 410) forget(stored);
    if (!answer.ok) continue;
    const found = await answer.json();
    if (found.job) forget(stored);
    else if (found.active) active = true;
    else if (!known.has(stored.uploadUrl)) {
      known.add(stored.uploadUrl);
      new Unfinished(stored, found.offset);
    }
  }
  if (active && looks) setTimeout(recall, 2000, looks - 1);
}

async function pump() {
  if (running >= AT_ONCE) return;
  running++;
  while (waiting.length) {
    const upload = waiting.shift();
    if (!upload.idle) await upload.run();
  }
  running--;
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
  }
}

addEventListener("online", () => {
  for (const row of list.querySelectorAll('[data-kind="lost"]')) row.dispatchEvent(new Event("hurry"));
});

form.addEventListener("submit", (event) => {
  if (event.submitter?.hasAttribute("formaction")) return; // the link's button
  event.preventDefault();
  add(input.files);
  input.value = "";
});
input.addEventListener("change", () => form.requestSubmit());
addEventListener("beforeunload", (event) => {
  if (running) event.preventDefault();
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

// The last choice of model and language comes back, if the box still offers it.
function remember(select) {
  const key = `stenobox.${select.name}`;
  try {
    const saved = localStorage.getItem(key);
    if ([...select.options].some((option) => option.value === saved)) select.value = saved;
    select.addEventListener("change", () => localStorage.setItem(key, select.value));
  } catch {
    // Storage is switched off: the server's choice stands.
  }
}

function summarise() {
  for (const summary of document.querySelectorAll("[data-model]")) {
    summary.hidden = summary.dataset.model !== form.elements.model.value;
  }
}

remember(form.elements.model);
remember(form.elements.language);
form.elements.model.addEventListener("change", summarise);
summarise();
recall();
