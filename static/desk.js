// The desk's own script: link watchdog, clocks, confirmed commands. htmx and hx-ws do the rest.
(() => {
  "use strict";
  const STALE_MS = 3500, HOLD_MS = 900, PRESS_GAP_MS = 600, ARMED_MS = 6000, SAY_GAP_MS = 5000;
  const byId = (id) => document.getElementById(id);
  const all = (selector) => document.querySelectorAll(selector);
  const setText = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };

  // --- what is said aloud: one alert slot, one status slot ------------------------------------------
  let statusSaidAt = 0;
  function say(text, level) {
    if (level !== "alert" && Date.now() - statusSaidAt < SAY_GAP_MS && byId("status-slot").textContent === text) return;
    if (level !== "alert") statusSaidAt = Date.now();
    setText(byId(level === "alert" ? "alert-slot" : "status-slot"), text);
    if (level === "alert") byId("alert-slot").scrollIntoView({block: "nearest"});
    else setText(byId("alert-slot"), "");
  }
  document.addEventListener("desk:say", (event) => say(event.detail.text, event.detail.level));

  // --- the link: every frame is a sign of life; silence switches the commands off -------------------
  let lastFrame = performance.now(), lastSequence = 0, serverOffset = 0, linkDead = "";
  const serverNow = () => Date.now() + serverOffset;
  document.addEventListener("htmx:ws:before:message:incoming", (event) => {
    let frame;
    try { frame = JSON.parse(event.detail.message.data); } catch { return; }
    lastFrame = performance.now();
    serverOffset = Date.parse(frame.at) - Date.now();
    if (lastSequence && frame.seq !== lastSequence + 1) resync();
    lastSequence = frame.seq;
    watch();
  });
  document.addEventListener("htmx:ws:after:connection", () => { lastSequence = 0; });
  document.addEventListener("htmx:ws:close", (event) => {
    if (event.detail.code === 4401) {
      linkDead = "signed out";
      say("You are signed out here. Reload the page and sign in again.", "alert");
    } else if (event.detail.code === 4404) {
      linkDead = "refused";
    }
    watch();
  });
  function resync() {
    const keys = [...all("[data-panel]")].map((element) => element.dataset.panel).join(",");
    htmx.ajax("GET", document.body.dataset.panels + "?keys=" + encodeURIComponent(keys), {source: byId("sock"), swap: "none"});
  }
  function watch() {
    const silence = performance.now() - lastFrame;
    const state = linkDead || silence > STALE_MS ? "stale" : lastSequence ? "live" : "connecting";
    const seconds = silence / 1000;
    setText(byId("link"), linkDead ? "OFF " + linkDead : state === "stale" ? "STALE " + Math.round(seconds) + " s"
      : state === "live" ? "live " + seconds.toFixed(1) + " s" : "connecting");
    if (document.body.dataset.link !== state) {
      document.body.dataset.link = state;
      byId("stale-note").hidden = state !== "stale";
      switchCommands();
    }
  }
  // A server-rendered `data-refused` says why a command is off; a stale link is one more reason. Halting stays on,
  // and comes on again where the page can no longer know that trading is halted already ("while-live").
  function switchCommands() {
    const stale = document.body.dataset.link === "stale";
    for (const button of all("button[data-command]")) {
      const sending = "sending" in button.dataset || (button.form && "sending" in button.form.dataset);
      button.classList.toggle("in-flight", Boolean(sending));
      if (sending) { button.disabled = true; continue; }
      const refused = "refusedUntil" in button.dataset || ("refused" in button.dataset && !(stale && button.dataset.refused === "while-live"));
      button.disabled = refused || (stale && button.dataset.command !== "halt");
    }
    if (stale) letGo();
  }

  // --- clocks: ages, countdowns, UTC -----------------------------------------------------------------
  function span(ms) {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    if (seconds < 120) return seconds + " s";
    if (seconds < 7200) return Math.floor(seconds / 60) + " min";
    return seconds < 172800 ? Math.floor(seconds / 3600) + " h" : Math.floor(seconds / 86400) + " d";
  }
  const pair = (value) => String(value).padStart(2, "0");
  function tick() {
    const now = serverNow();
    for (const element of all("time[data-age]")) element.dataset.shown = span(now - Date.parse(element.dateTime)) + " ago";
    for (const element of all("time[data-until]")) {
      const left = Math.ceil((Date.parse(element.dateTime) - now) / 1000);
      element.dataset.shown = left <= 0 ? "time is up" : pair(Math.floor(left / 60)) + ":" + pair(left % 60);
      element.classList.toggle("soon", left <= 30);
      if ("announce" in (element.closest("[data-announce]") || {dataset: {}}).dataset && [60, 30, 10].includes(left)) say(left + " seconds left to decide", "status");
    }
    // A command that opens at an instant; the server judges the instant again.
    for (const button of all("button[data-refused-until]")) {
      if (Date.parse(button.dataset.refusedUntil) <= now) { delete button.dataset.refusedUntil; switchCommands(); }
    }
    setText(byId("utc"), new Date(now).toISOString().slice(11, 19) + " UTC");
    const pending = byId("panel-badge-pending"), count = pending ? parseInt(pending.textContent, 10) || 0 : 0;
    const title = document.title.replace(/^\(\d+\) /, "");
    const wanted = count ? "(" + count + ") " + title : title;
    if (document.title !== wanted) document.title = wanted;
  }
  function dress() { switchCommands(); tick(); }
  document.addEventListener("htmx:after:swap", () => { checkHold(); dress(); });

  // --- commands that ask to be confirmed: hold (released on the button) or two separate presses ------
  // `data-confirm="hold"`: pointer holds, keyboard presses twice. `data-confirm="twice"`: both press twice.
  let held = null;
  const passed = new WeakSet();
  function letGo(why) {
    if (!held) return;
    delete held.button.dataset.holding;
    held = null;
    if (why) say(why, "status");
  }
  function checkHold() {
    if (held && (!held.button.isConnected || held.button.disabled || held.button.dataset.key !== held.key)) {
      letGo();
      say("The proposal changed while you held the button. Nothing was sent: read it again.", "alert");
    }
  }
  const confirmed = (button) => { passed.add(button.form); button.form.requestSubmit(button); };
  document.addEventListener("pointerdown", (event) => {
    const button = event.target.closest("button[data-confirm='hold']");
    if (!button || button.disabled || event.button !== 0) return;
    held = {button, key: button.dataset.key, since: performance.now()};
    button.dataset.holding = "";
  });
  document.addEventListener("pointerup", (event) => {
    if (!held) return;
    const {button, since, key} = held;
    const under = document.elementFromPoint(event.clientX, event.clientY);
    letGo();
    if (!button.contains(under)) return say("Not sent: you slid off the button.", "status");
    if (performance.now() - since < HOLD_MS) return say("Not sent: hold the button for a second, then let go.", "status");
    if (!button.disabled && button.dataset.key === key) confirmed(button);
  });
  document.addEventListener("pointercancel", () => letGo());
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") { letGo("Not sent."); disarm(); } });
  window.addEventListener("blur", () => letGo());
  document.addEventListener("contextmenu", (event) => { if (event.target.closest("button[data-confirm]")) event.preventDefault(); });
  function disarm(button) {
    for (const armed of button ? [button] : all("button[data-armed]")) delete armed.dataset.armed;
  }
  function press(button) {
    const now = performance.now(), armedAt = Number(button.dataset.armed);
    if (armedAt && now - armedAt >= PRESS_GAP_MS && now - armedAt <= ARMED_MS) { disarm(button); return confirmed(button); }
    if (armedAt && now - armedAt < PRESS_GAP_MS) return;
    button.dataset.armed = String(now);
    setTimeout(() => { if (button.dataset.armed === String(now)) disarm(button); }, ARMED_MS);
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-confirm]");
    if (!button) return;
    event.preventDefault();
    if (!button.disabled && (button.dataset.confirm === "twice" || event.detail === 0)) press(button);
  }, true);
  document.addEventListener("submit", (event) => {
    const needs = event.target.querySelector("button[data-confirm]");
    if (needs && !passed.delete(event.target)) { event.preventDefault(); event.stopImmediatePropagation(); }
  }, true);

  // --- requests: in flight, refused, lost -------------------------------------------------------------
  const commandOf = (event) => event.target.closest && event.target.closest("[data-command-form]");
  document.addEventListener("htmx:before:request", (event) => {
    const source = commandOf(event);
    if (source) { source.dataset.sending = ""; switchCommands(); }
  });
  document.addEventListener("htmx:before:response", (event) => {
    const raw = event.detail.ctx.response.raw;
    if (raw.redirected && new URL(raw.url).pathname === document.body.dataset.login) { event.preventDefault(); location.reload(); }
    else if (raw.status === 403) say("Refused: your session or your rights changed. Nothing was done; reload the page.", "alert");
    else if (raw.status === 404) say("That row is gone. Nothing was done; reload the page.", "alert");
    else if (raw.status >= 500 && commandOf(event)) {
      if (raw.headers.has("HX-Trigger")) resync();  // the database is away; the answer itself says so
      else unknownOutcome(commandOf(event));
    }
  });
  document.addEventListener("htmx:error", (event) => { if (commandOf(event)) unknownOutcome(commandOf(event)); });
  document.addEventListener("htmx:finally:request", (event) => {
    const source = commandOf(event);
    if (source) { delete source.dataset.sending; setTimeout(dress); }
  });
  function unknownOutcome(form) {
    // The halt is asked for without a question and may be repeated without harm; nothing else may.
    if (form.querySelector("button[data-command='halt']:not([data-confirm])")) say("No answer to Halt: orders may still go out. Press Halt again until this page says HALTED; repeating it does no harm.", "alert");
    else say("Outcome unknown: the answer was lost. Checking the state; do not press again before it shows.", "alert");
    resync();
  }

  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) watch(); });
  setInterval(() => { watch(); tick(); }, 250);
  document.addEventListener("DOMContentLoaded", dress);
  dress();
})();
