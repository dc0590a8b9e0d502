// Everything that happens in the browser: buttons tell the server, holding, dialogs, ages, and the
// one thing the server cannot say itself: that it is gone.
(() => {
  const HOLD_MS = 800;
  const LOST_MS = 5000;
  // The first answer brings a beat of its own. Its age counts from when it was asked for, so that
  // numbers can look older than they are, never younger.
  let lastBeat = 0;
  let beat = null;
  let hold = null;
  let armed = null;
  let focusKey = null;

  // What is asked for before the page of elements is there waits for it.
  const early = () => document.getElementById("early");
  let waiting = [];
  const tell = (action, form) => {
    if (early()) waiting.push([action, form]);
    else window.emitEvent("crossfade", { action, form });
  };
  const given = (element) => {
    const { action, key, hold, ...data } = element.dataset;
    return data;
  };
  const connected = () => !document.body.classList.contains("lost");

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || !connected()) return;
    if (button.dataset.hold) {
      // Only presses that were not held come here with detail 0: keyboard or a screen reader.
      if (event.detail === 0) twice(button);
      return;
    }
    const action = button.dataset.action;
    if (!action) return;
    if (action === "close") button.closest("dialog").close();
    tell(action, given(button));
  });

  // A panel that changes replaces its buttons, also between the two halves of a click, and then no
  // button gets it: the successor does, if the pointer is still on it.
  let pressed = null;
  document.addEventListener("pointerdown", (event) => {
    pressed = event.button === 0 ? event.target.closest("button") : null;
  });
  document.addEventListener("pointerup", (event) => {
    const was = pressed;
    pressed = null;
    if (!was || was.isConnected || was.dataset.hold) return;
    const now = document.elementFromPoint(event.clientX, event.clientY)?.closest("button");
    if (now?.dataset.key && now.dataset.key === was.dataset.key) now.click();
  });

  // A click without a pointer: the second one within four seconds engages.
  function twice(button) {
    if (armed && armed.key === button.dataset.key && performance.now() - armed.at < 4000) {
      armed = null;
      engage(button);
      return;
    }
    armed = { key: button.dataset.key, at: performance.now() };
    button.classList.add("armed");
    button.firstElementChild.textContent = "Press again to engage";
    setTimeout(() => {
      button.classList.remove("armed");
      button.firstElementChild.textContent = "Hold to engage";
    }, 4000);
  }

  function engage(button) {
    button.firstElementChild.textContent = "Engaging…";
    tell(button.dataset.hold, given(button));
  }

  document.addEventListener("pointerdown", (event) => {
    const button = event.target.closest("button[data-hold]");
    if (!button || event.button !== 0 || !connected()) return;
    button.classList.add("holding");
    hold = { button, timer: setTimeout(() => { stop(); engage(button); }, HOLD_MS) };
  });
  function stop() {
    if (!hold) return;
    clearTimeout(hold.timer);
    hold.button.classList.remove("holding");
    hold = null;
  }
  for (const name of ["pointerup", "pointercancel", "blur"]) addEventListener(name, stop);
  document.addEventListener("contextmenu", (event) => {
    if (event.target.closest("button[data-hold]")) event.preventDefault();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("dialog form");
    if (!form) return;
    event.preventDefault();
    if (!connected()) return;
    for (const button of form.querySelectorAll("button[type=submit]")) button.disabled = true;
    tell(form.dataset.action, Object.fromEntries(new FormData(form)));
  });
  document.addEventListener("close", () => tell("close", {}), true);

  // A panel that changes replaces its buttons; whoever had the focus gets it back.
  document.addEventListener("focusin", (event) => {
    focusKey = event.target.closest?.("[data-key]")?.dataset.key ?? null;
  });
  function refocus() {
    if (!focusKey || document.activeElement !== document.body) return;
    document.querySelector(`[data-key="${CSS.escape(focusKey)}"]`)?.focus({ preventScroll: true });
  }

  // Both pages show the same: the change is made before anything is painted, and nothing moves.
  function takeOver() {
    if (!early() || !document.querySelector("#app #page")) return;
    early().remove();
    for (const [action, form] of waiting.splice(0)) tell(action, form);
  }

  function look() {
    takeOver();
    const found = document.querySelector("#beat span");
    if (found && found.dataset.beat !== beat) {
      if (beat !== null) lastBeat = performance.now();
      beat = found.dataset.beat;
      document.title = found.dataset.title;
      document.body.classList.toggle("stale", found.dataset.stale === "1");
      // Not at the next tick: buttons work again from now on.
      tick();
    }
    for (const dialog of document.querySelectorAll("#dialog dialog:not([open])")) {
      if (dialog.returnValue === "" && !dialog.dataset.shown) {
        dialog.dataset.shown = "1";
        dialog.showModal();
        dialog.querySelector("textarea, input:not([type=hidden]), button")?.focus();
      }
    }
    for (const time of document.querySelectorAll("time:not([data-local])")) {
      time.dataset.local = "1";
      const at = new Date(time.dateTime);
      time.title = time.textContent;
      const today = at.toDateString() === new Date().toDateString();
      time.textContent = today ? at.toLocaleTimeString() : at.toLocaleString();
    }
    refocus();
  }

  function tick() {
    const silent = performance.now() - lastBeat;
    const lost = beat !== null && silent > LOST_MS;
    document.body.classList.toggle("lost", lost);
    const box = document.getElementById("lost");
    if (lost && box) {
      // Nobody expects any more what was pressed before.
      waiting = [];
      const gone = `${Math.round(silent / 1000)} s`;
      const what = early() ? `not reached its server for ${gone}` : `lost its server ${gone} ago`;
      box.textContent = `✖ This page has ${what}. Nothing below is current, and no button works.`;
      document.title = "✖ lost, crossfade";
    }
    const fresh = document.querySelector(".fresh");
    const found = document.querySelector("#beat span");
    if (fresh && found && found.dataset.age) {
      const age = Number(found.dataset.age) + silent / 1000;
      fresh.textContent = `Read ${age < 1.5 ? "just now" : `${Math.round(age)} s ago`}`;
    }
  }

  new MutationObserver(look).observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["data-beat"],
  });
  look();
  tick();
  setInterval(tick, 500);
})();
