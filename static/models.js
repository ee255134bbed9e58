// The choice of a model and a language: remembered by this browser, and asked for by the first file of one's own while
// the box has only its demo model to fall back on.

const form = document.querySelector("#submit");
const select = form.elements.model;
const question = document.querySelector("#question");
const answer = document.querySelector("#answer");

// The last choice comes back, if the box still offers it.
function remember(field) {
  const key = `stenobox.${field.name}`;
  try {
    const saved = localStorage.getItem(key);
    // A form that came back refused has what was typed last.
    const typed = document.querySelector("[data-message]");
    if (saved && !typed && [...field.options].some((option) => option.value === saved)) field.value = saved;
    field.addEventListener("change", () => localStorage.setItem(key, field.value));
  } catch {
    // Storage is switched off: the server's choice stands.
  }
}

function summarise() {
  for (const summary of document.querySelectorAll("[data-model]")) {
    summary.hidden = summary.dataset.model !== select.value;
  }
}

export function isChosen() {
  return select.value !== "";
}

// Something is to be sent: with which model?
export function need() {
  if (!question) return;
  if (isChosen()) return settle();
  if (!question.hidden) return;
  question.hidden = false;
  question.querySelector("h2").focus();
  question.scrollIntoView({ block: "nearest" });
}

// Whoever may change the box sets it for all with the first choice; others set their own browser.
async function settle() {
  const open = !question.hidden;
  question.hidden = true;
  if (open) document.querySelector("#sending-title").focus();
  if (!("maySet" in question.dataset) || select.value === "demo") return;
  delete question.dataset.maySet;
  await fetch("/api/v1/settings", {
    method: "PATCH",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ model: select.value }),
  }).catch(() => {}); // the choice counts for this browser all the same
}

// whenChosen: what waits for a choice.
export function begin(whenChosen) {
  remember(select);
  remember(form.elements.language);
  select.addEventListener("change", () => {
    summarise();
    if (!question?.hidden) settle();
    whenChosen();
  });
  answer?.addEventListener("submit", (event) => {
    event.preventDefault();
    select.value = answer.elements.answer.value;
    select.dispatchEvent(new Event("change"));
  });
  summarise();
}
