// The rows of the tray above the list: one for each file that this page sends, holds, or once began to send.

const list = document.querySelector("#uploads");
const section = document.querySelector("#sending");
const template = document.querySelector("#upload-row");

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 999.5 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes < 9.95 && unit ? bytes.toFixed(1).replace(/\.0$/, "") : Math.round(bytes)} ${units[unit]}`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// When something happens again: seconds are counted down, minutes and hours are only told roughly.
export function soon(until) {
  const seconds = (until - Date.now()) / 1000;
  return seconds < 60 ? `in ${span(seconds)}` : `in about ${span(seconds)}`;
}

export function percent(sent, total) {
  return `${Math.floor((sent / total) * 100)}%`;
}

export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Row {
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
    list.append(this.row);
    section.hidden = false;
  }

  // acts: what a person can do now, with other words for it where needed: {pause: "", cancel: "Give up"}
  show(kind, text, acts = {}) {
    const urgent = kind === "failed" || kind === "unfinished";
    if (urgent && this.row.dataset.kind !== kind) this.lift();
    this.row.dataset.kind = kind;
    const state = this.row.querySelector(".upload-state");
    put(state, text);
    // What goes wrong is read out at once; progress is not, every second.
    state.toggleAttribute("role", false);
    if (kind === "failed") state.setAttribute("role", "alert");
    this.bar.hidden = !["sending", "paused", "lost", "unfinished"].includes(kind) || !(this.bar.value || kind === "sending");
    for (const button of this.row.querySelectorAll("[data-act]")) {
      const words = acts[button.dataset.act];
      button.hidden = words === undefined;
      if (words && button.textContent !== words) {
        button.textContent = words;
        button.setAttribute("aria-label", `${words} ${this.name}`);
      }
    }
  }

  // What a person has to act on stands first: twelve rows are more than a screen.
  lift() {
    const focused = this.row.contains(document.activeElement) ? document.activeElement : null;
    list.prepend(this.row);
    focused?.focus({ preventScroll: true });
  }

  remove() {
    if (this.row.contains(document.activeElement)) {
      const near = this.row.nextElementSibling ?? this.row.previousElementSibling;
      (near?.querySelector("button:not([hidden])") ?? document.querySelector("#main")).focus({ preventScroll: true });
    }
    this.row.remove();
    section.hidden = !list.children.length;
  }
}
