// What came before, or stands beside, the files that this page sends: uploads and names that an earlier page left, and a
// link that was typed when files were dropped.

import { Row, percent, size } from "./rows.js";

const input = document.querySelector("#file");
// Addresses of uploads that have a row.
export const known = new Set();
export const unfinished = new Set();
const reminders = new Set();
const links = new Set();

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

function forget(stored) {
  tus.defaultOptions.urlStorage.removeUpload(stored.urlStorageKey);
}

// Lists what earlier pages left unfinished; what is over is forgotten. One that moves belongs to another tab, or to the
// page before this one, whose end the box has not noticed yet: it is looked at again.
export async function recall(looks = 4) {
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

// Files that waited when the page before this one was left: no page may open them again by itself.
const KEPT = "stenobox.waiting.";

class Reminder extends Row {
  constructor(files) {
    super(files.map((file) => file.name).join(", "));
    this.files = files;
    reminders.add(this);
    this.tell();
  }

  tell() {
    const many = this.files.length === 1 ? "This file was" : `${this.files.length} files were`;
    this.row.querySelector("bdi").textContent = this.files.map((file) => file.name).join(", ");
    const them = this.files.length === 1 ? "it" : "them";
    this.show("unfinished", `${many} waiting when this page was left: choose ${them} again.`, { choose: "Choose files", cancel: "Dismiss" });
  }

  found(file) {
    this.files = this.files.filter((one) => one.name !== file.name || one.size !== file.size);
    if (this.files.length) this.tell();
    else this.cancel();
  }

  choose() {
    input.click();
  }

  cancel() {
    reminders.delete(this);
    this.remove();
  }
}

export function remindNoMore(file) {
  for (const row of reminders) row.found(file);
}

// Tells of what pages before this one left, and sees to it that the next is told. files: what waits here now. It is
// written only as the page goes: one that is open tells of its files by itself.
export function remind(files) {
  const page = KEPT + Math.random().toString(36).slice(2);
  const left = () => [...files(), ...[...reminders].flatMap((row) => row.files)];
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(KEPT));
    const names = keys.flatMap((key) => JSON.parse(localStorage.getItem(key)));
    for (const key of keys) localStorage.removeItem(key);
    if (names.length) new Reminder(names);
    addEventListener("pagehide", () => {
      const names = left().map(({ name, size }) => ({ name, size }));
      if (names.length) localStorage.setItem(page, JSON.stringify(names));
    });
    addEventListener("pageshow", (event) => event.persisted && localStorage.removeItem(page));
  } catch {
    // Storage is switched off: nobody can be reminded.
  }
}

// A link that was typed beside files: they go up by themselves, it doesn't.
class Link extends Row {
  constructor(url) {
    super(url);
    this.show("failed", "This link is not fetched yet: the files are sent without it.", { choose: "Fetch", cancel: "Not now" });
    links.add(this);
  }

  choose() {
    const button = document.querySelector("#fetch");
    button.form.requestSubmit(button);
  }

  cancel() {
    links.delete(this);
    this.remove();
  }
}

export function beside(url) {
  if (url && !links.size) new Link(url);
}

export function dropLinks() {
  for (const row of links) row.cancel();
}
