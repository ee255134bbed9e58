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

// A list that is read out anew every second is unusable with a screen reader: only the end of a job is announced.
const states = new Map();
const announcer = document.querySelector("#announcer");

function announce() {
  for (const row of document.querySelectorAll(".job")) {
    const before = states.get(row.id);
    states.set(row.id, row.dataset.state);
    if (before && before !== row.dataset.state && /completed|failed|canceled/.test(row.dataset.state)) {
      put(announcer, `${row.querySelector("bdi").textContent}: ${row.dataset.state}`);
    }
  }
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
  put(announcer, label.textContent);
  setTimeout(() => { label.textContent = "Copy text"; }, 2000);
});

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});
