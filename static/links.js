// The link field: the form goes the plain way, and the answer can take seconds, so the button says what is going on.

const button = document.querySelector("#fetch");
const field = document.querySelector("#url");

button?.form.addEventListener("submit", (event) => {
  if (event.submitter !== button) return;
  if (!field.value.trim()) {
    event.preventDefault();
    field.focus();
    return;
  }
  if (document.documentElement.hasAttribute("data-sending")) {
    setTimeout(() => (field.value = "")); // the answer comes in a tab of its own: this one sends files
    return;
  }
  const words = button.textContent;
  button.textContent = "Looking…";
  button.setAttribute("aria-busy", "true");
  // Not now: a disabled button would not be sent.
  setTimeout(() => (button.disabled = true));
  addEventListener("pageshow", () => Object.assign(button, { textContent: words, disabled: false }), { once: true });
});
