// The form of the front page: files go up one after another through XMLHttpRequest (fetch can't report progress),
// each with a row of its own. A box that is full is asked again when it said to come back.

const form = document.querySelector("#submit");
const drop = document.querySelector("#drop");
const input = document.querySelector("#file");
const list = document.querySelector("#uploads");
const template = document.querySelector("#upload-row");
const maxBytes = Number(form.dataset.maxBytes);
const waiting = [];
let pumping = false;

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

class Upload {
  constructor(file) {
    this.file = file;
    this.model = form.elements.model.value;
    this.language = form.elements.language.value;
    this.stopped = false;
    this.row = template.content.firstElementChild.cloneNode(true);
    this.bar = this.row.querySelector("progress");
    this.retryButton = this.row.querySelector('[data-act="retry"]');
    this.dropButton = this.row.querySelector('[data-act="drop"]');
    const name = this.row.querySelector("bdi");
    name.textContent = file.name;
    name.parentElement.title = file.name;
    this.bar.setAttribute("aria-label", `Upload of ${file.name}`);
    this.retryButton.addEventListener("click", () => this.enqueue());
    this.dropButton.addEventListener("click", () => this.stop());
    list.append(this.row);
  }

  show(kind, text, dropLabel) {
    this.row.dataset.kind = kind;
    const state = this.row.querySelector(".upload-state");
    state.textContent = text;
    // What goes wrong is read out at once; progress is not, every second.
    state.toggleAttribute("role", false);
    if (kind === "failed") state.setAttribute("role", "alert");
    this.bar.hidden = kind !== "sending";
    this.retryButton.hidden = true;
    this.dropButton.hidden = !dropLabel;
    this.dropButton.textContent = dropLabel;
  }

  enqueue() {
    this.show("waiting", `Waiting · ${size(this.file.size)}`, "Cancel");
    waiting.push(this);
    pump();
  }

  fail(message, retryable = false) {
    this.show("failed", message, "Dismiss");
    this.retryButton.hidden = !retryable;
  }

  stop() {
    this.stopped = true;
    this.request?.abort();
    this.wake?.();
    this.row.remove();
  }

  // Sends until the box takes the file, refuses it for good, or a person stops it.
  async run() {
    while (!this.stopped) {
      const { status, body, retryAfter } = await this.send();
      if (this.stopped) return;
      if (status === 202) return this.accepted(body.id);
      if (status === 429 || status === 503) await this.wait(retryAfter, status);
      else if (status === 0) return this.fail("The connection broke before the whole file was sent.", true);
      else return this.fail(body?.error?.message ?? `The box answered with an error (${status}).`, status >= 500);
    }
  }

  send() {
    return new Promise((resolve) => {
      const data = new FormData();
      // Before the file: the server reads the fields in order and checks them before it takes the bytes.
      data.append("model", this.model);
      if (this.language) data.append("language", this.language);
      data.append("file", this.file, this.file.name);
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", "/api/v1/transcriptions");
      request.setRequestHeader("Accept", "application/json");
      request.responseType = "json";
      this.show("sending", `Starting · ${size(this.file.size)}`, "Cancel");
      this.bar.value = 0;
      const samples = [];
      request.upload.addEventListener("progress", (event) => this.progress(event, samples));
      request.addEventListener("loadend", () => {
        const retryAfter = Number(request.getResponseHeader("Retry-After")) || 5;
        resolve({ status: request.status, body: request.response, retryAfter });
      });
      request.send(data);
    });
  }

  progress({ loaded, total }, samples) {
    this.bar.value = loaded / total;
    if (loaded === total) return this.show("sending", "Sent. The box is storing it…", "Cancel");
    // The rate of the last seconds, not of the whole upload: it follows a connection that changes.
    samples.push({ at: performance.now(), loaded });
    while (samples.length > 2 && samples.at(-1).at - samples[0].at > 4000) samples.shift();
    const seconds = (samples.at(-1).at - samples[0].at) / 1000;
    const rate = seconds > 0.25 ? (loaded - samples[0].loaded) / seconds : 0;
    const parts = [`${Math.floor((loaded / total) * 100)}%`];
    if (rate) parts.push(`${size(rate)}/s`, `${span((total - loaded) / rate)} left`);
    this.show("sending", parts.join(" · "), "Cancel");
  }

  async wait(seconds, status) {
    const why = status === 429 ? "The box is full" : "The box is busy";
    const end = Date.now() + seconds * 1000;
    while (!this.stopped && Date.now() < end) {
      const left = Math.ceil((end - Date.now()) / 1000);
      this.show("backoff", `${why}; trying again in ${left} s`, "Give up");
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, Math.min(1000, end - Date.now()));
      });
    }
  }

  accepted(id) {
    this.show("accepted", "Handed over", "");
    this.id = id;
    arriving.add(this);
    setTimeout(() => this.arrive(), 5000); // a job that came and went between two polls never shows
    htmx.trigger("#jobs", "refresh");
  }

  arrive() {
    arriving.delete(this);
    this.row.remove();
  }
}

const arriving = new Set();
document.addEventListener("htmx:before:settle", () => {
  for (const upload of arriving) if (document.getElementById(`job-${upload.id}`)) upload.arrive();
});

async function pump() {
  if (pumping) return;
  pumping = true;
  while (waiting.length) {
    const upload = waiting.shift();
    if (!upload.stopped) await upload.run();
  }
  pumping = false;
}

function add(files) {
  for (const file of files) {
    const upload = new Upload(file);
    if (file.size > maxBytes) upload.fail(`This file is ${size(file.size)}; the box takes up to ${size(maxBytes)}.`);
    else if (file.size === 0) upload.fail("This file is empty.");
    else upload.enqueue();
  }
}

form.addEventListener("submit", (event) => {
  if (event.submitter?.hasAttribute("formaction")) return; // the link's button
  event.preventDefault();
  add(input.files);
  input.value = "";
});
input.addEventListener("change", () => form.requestSubmit());
addEventListener("beforeunload", (event) => {
  if (pumping) event.preventDefault();
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
