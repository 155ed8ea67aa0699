// The alerts page: registers the service worker and has this device told of alerts, when asked to.
(() => {
  "use strict";
  const section = document.getElementById("device"), button = document.getElementById("device-add");
  const says = document.getElementById("device-says");
  const say = (text) => { says.textContent = text; };
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));

  if (!section.dataset.pushKey) return say("The desk cannot keep the key that push messages are signed with: see the web server's log.");
  if (!("serviceWorker" in navigator)) return say("This browser cannot be told here: it needs https (or this very machine).");
  const registered = navigator.serviceWorker.register(section.dataset.worker, {scope: "/", updateViaCache: "none"});
  registered.then(offer, () => say("This browser refused the service worker, so it cannot be told."));

  function offer() {
    if (!("PushManager" in window) || !("Notification" in window)) return say("This browser knows no push messages. On an iPhone, install the page first.");
    if (Notification.permission === "denied") return say("Notifications of this page are blocked in the browser's settings.");
    button.hidden = false;
    say("");
    navigator.serviceWorker.ready.then((worker) => worker.pushManager.getSubscription()).then((held) => {
      if (held && !says.textContent) say("This browser has subscribed. If it does not stand above, press again.");
    }, () => {});
  }

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      if (await Notification.requestPermission() !== "granted") return say("Not allowed, so this device is not told.");
      const worker = await navigator.serviceWorker.ready;
      const held = await worker.pushManager.getSubscription();
      const subscription = held || await worker.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: bytes(section.dataset.pushKey)});
      await keep(subscription);
    } catch (error) {
      say("The browser could not subscribe: " + error.message);
    } finally {
      button.disabled = false;
    }
  });

  async function keep(subscription) {
    const platform = (navigator.userAgentData && navigator.userAgentData.platform) || navigator.platform || "browser";
    const token = document.querySelector("#acknowledge-form [name=csrfmiddlewaretoken]").value;
    const answer = await fetch(section.dataset.devices, {
      method: "POST",
      headers: {"X-CSRFToken": token, "HX-Request": "true"},
      body: new URLSearchParams({subscription: JSON.stringify(subscription), name: platform.slice(0, 20)}),
    });
    if (answer.ok) return say("This device is told from now on. Send it a test above.");
    const said = JSON.parse(answer.headers.get("HX-Trigger") || "{}")["desk:say"];
    say(said ? said.text : "The desk did not take the subscription (" + answer.status + ").");
  }
})();
