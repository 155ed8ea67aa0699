// The desk's service worker: it shows notifications, opens their page, and says when the desk is out of reach.
// It keeps nothing: a price or an order out of a cache would be believed.
"use strict";
const OFFLINE = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="dark">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Offline · tradingbot</title>
<h1>Offline</h1><p>The desk cannot be reached from this device, so nothing is shown: what was here before may be old.</p>
<p>The bot goes on by itself, with its own limits. <a href="">Try again</a></p></html>`;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate" || event.request.method !== "GET") return;
  event.respondWith(fetch(event.request).catch(() => new Response(OFFLINE, {
    status: 503,
    headers: {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"},
  })));
});

self.addEventListener("push", (event) => {
  let told = {};
  try { told = event.data.json(); } catch { /* shown without words rather than not at all */ }
  event.waitUntil(self.registration.showNotification(told.title || "tradingbot: an alert", {
    body: told.body || "Open the page to read it.",
    tag: told.tag || "alert",
    renotify: true,
    icon: "/static/icon-192.png",
    badge: "/static/icon-192.png",
    data: {path: told.path},
  }));
});

// A click opens a page of the desk and does nothing else.
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const path = (event.notification.data || {}).path || "/alerts/", home = self.location.origin;
  const wanted = URL.canParse(path, home) ? new URL(path, home) : null;
  const url = wanted && wanted.origin === home ? wanted.href : home + "/alerts/";
  event.waitUntil(self.clients.matchAll({type: "window"}).then((open) => {
    const page = open.find((client) => new URL(client.url).pathname === new URL(url).pathname);
    return page ? page.focus() : self.clients.openWindow(url);
  }));
});
