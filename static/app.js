// What every page gets on top of plain HTML: times in the reader's own zone, notices, copying, announcements.
// The server's words stay the source; this only rewrites them, and only through textContent.

const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function ago(date) {
  const seconds = (Date.now() - date) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 2700) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 79200) return `${Math.round(seconds / 3600)} h ago`;
  return absolute.format(date);
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function localise() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const date = new Date(element.dateTime);
    put(element, ago(date));
    element.title = absolute.format(date);
  }
}

// A list that is read out anew every second is unusable with a screen reader. Only what a listener would ask for is
// said, each once: the end of a job, what can be undone, why the box takes nothing, each quarter of a batch.
const announcer = document.querySelector("#announcer");
const SAID_SECONDS = 10;

function tell(text) {
  const line = document.createElement("p");
  line.textContent = text.replace(/\s+/g, " ").trim();
  announcer.append(line);
  setTimeout(() => line.remove(), SAID_SECONDS * 1000);
}

const states = new Map();
const ENDED = /completed|failed|canceled/;

function tellEnds() {
  const first = states.size === 0;
  let older = false;
  for (const row of document.querySelectorAll(".job")) {
    const { state } = row.dataset;
    const before = states.get(row.id);
    states.set(row.id, state);
    older ||= before !== undefined && row.closest("#group-finished") !== null;
    // One that came and went between two polls stands above those that were here; below them, another made room for it.
    const ended = before === undefined ? !first && !older && row.closest("#group-finished") : before !== state;
    const undo = document.getElementById(row.id.replace("job-", "undone-"));
    // The page of a batch tells its quarters instead, and a click's own words come with its Undo.
    if (!ended || !ENDED.test(state) || row.closest(".batch-jobs") || (undo && state === "canceled")) continue;
    tell(`${row.querySelector("bdi").textContent}: ${state}`);
  }
}

const quarters = new Map();

function tellQuarters() {
  for (const words of document.querySelectorAll("[data-quarter]")) {
    const before = quarters.get(words.id);
    quarters.set(words.id, words.dataset.quarter);
    if (before !== undefined && before !== words.dataset.quarter) tell(words.textContent);
  }
}

let told = null;

function tellNews() {
  const news = new Map();
  for (const reason of document.querySelectorAll("[data-reason]")) news.set(reason.id, reason.textContent);
  for (const undo of document.querySelectorAll("[data-undo] .undo-words")) {
    news.set(undo.parentElement.id, `${undo.textContent}. It can be undone for ten seconds.`);
  }
  for (const [id, text] of news) if (told && !told.has(id)) tell(text);
  told = news;
}

function announce() {
  tellEnds();
  tellQuarters();
  tellNews();
}

function refresh() {
  localise();
  announce();
  if (document.querySelector(".segment-text")) document.querySelector("#copy").hidden = false;
}

// The button that was pressed is about to go: whoever uses the keyboard goes on from beside it, not from the top.
function keepPlace(form) {
  const row = form.closest(".job");
  const near = form.matches('[action$="/delete"]') ? row?.nextElementSibling ?? row?.previousElementSibling : row;
  (near?.querySelector("a") ?? document.querySelector("#main")).focus({ preventScroll: true });
}

const notice = document.querySelector("#offline");

let fading = 0;

function say(text, seconds = 0) {
  clearTimeout(fading);
  if (seconds) fading = setTimeout(say, seconds * 1000, "");
  put(notice, text);
  notice.hidden = !text;
}

// This event comes in the same task as the morph, so that the server's wording of a time is never painted.
document.addEventListener("htmx:before:settle", refresh);
setInterval(localise, 20_000);
refresh();

// What stands still comes as a mark in its place: the page keeps what it has.
htmx.registerExtension("same", {
  htmx_before_morph_node: (_, { newNode }) => !newNode.hasAttribute?.("data-same"),
});

// Nobody looks at a hidden tab, so it asks for nothing, unless it holds recordings that are to go once there is room.
const POLLS = '[hx-trigger*="every"]';
const holding = () => document.querySelector('.upload[data-kind="backoff"], .upload[data-kind="held"]') !== null;
document.addEventListener("htmx:before:request", (event) => {
  const { sourceElement } = event.detail.ctx;
  if (document.hidden && sourceElement.matches(POLLS) && !holding()) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const region of document.querySelectorAll(POLLS)) htmx.trigger(region, "refresh");
});

// Whoever came back from a change isn't told of it again by a reload.
if (/[?&](saved|unloaded)=/.test(location.search)) history.replaceState(null, "", location.pathname);

// The session is over. The page goes to the login and comes back, unless something would be lost by that.
function loggedOut() {
  const typed = (field) => field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  const fields = document.querySelectorAll("main :is(input:not([type=hidden], [type=file]), textarea)");
  const login = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  if (!document.querySelector("#uploads .upload") && ![...fields].some(typed)) return location.assign(login);
  if (notice.dataset.from === "login") return;
  notice.dataset.from = "login";
  say("You were logged out. ");
  const link = document.createElement("a");
  link.href = "/login";
  link.target = "_blank";
  link.textContent = "Log in in a new tab";
  notice.append(link, ": this page then goes on, with what is in it.");
}

document.addEventListener("htmx:error", () => {
  notice.dataset.from = "poll";
  say("The box can't be reached. This is what it last said; trying again…");
});
document.addEventListener("htmx:after:request", (event) => {
  const { response, sourceElement } = event.detail.ctx;
  if (response.status >= 400) return;
  // A poll that works only clears what a poll has said: a notice about a refused click is still to be read.
  if (notice.dataset.from !== "click" || sourceElement.matches("form")) say("");
  if (sourceElement.matches("form")) keepPlace(sourceElement);
  if (sourceElement.matches("#jobs form")) htmx.trigger("#jobs", "refresh");
});
document.addEventListener("htmx:response:error", (event) => {
  const { response, sourceElement, text } = event.detail.ctx;
  const page = new DOMParser().parseFromString(text, "text/html");
  const sentence = page.querySelector("[data-message]")?.textContent;
  const poll = !sourceElement.matches("form");
  if (response.status === 401) return loggedOut();
  notice.dataset.from = poll ? "poll" : "click";
  if (poll && response.status === 404) {
    // The job was deleted elsewhere: asking again can only give the same answer.
    sourceElement.removeAttribute("hx-get");
    htmx.process(sourceElement, true);
    say("This recording was deleted.");
  } else if (poll) {
    say("The box has trouble answering. This is what it last said; trying again…");
  } else {
    say(sentence ?? "That didn't work. Please try again.", 12);
  }
});

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without HTTPS (a box on the local network) browsers offer only the old way.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not allowed");
}

document.addEventListener("click", async (event) => {
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
  const button = event.target.closest("#copy");
  if (!button) return;
  const lines = [...document.querySelectorAll(".segment-text")].map((line) => line.textContent);
  const label = button.querySelector("span");
  try {
    await copy(lines.join("\n"));
    label.textContent = "Copied";
  } catch {
    label.textContent = "Your browser refused";
  }
  tell(label.textContent);
  setTimeout(() => { label.textContent = "Copy text"; }, 2000);
});

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});
