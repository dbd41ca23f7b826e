// The page: keeps a connection to the gateway's events, shows what they say, and says so when it is lost.

import { duration, moment } from "./format.js";
import { Model } from "./model.js";
import { put } from "./rows.js";
import { badge, sections, totals } from "./sections.js";
import { events } from "./stream.js";

const URL = "api/v1/events";
const SILENT_MS = 12_000; // the gateway says something every 5 s
const RETRY_MS = [500, 1000, 2000, 5000];
const HIDDEN_MS = 60_000; // a browser has few connections to one host: a tab that nobody sees gives its own back
const TICK_MS = 1000;
const NEWS_AT_MOST = 3;

const model = new Model();
const showSections = sections(document, model);
const at = (id) => document.querySelector(`#${id}`);
let heardAt = null;
let known = null; // the open alerts that were announced, by id

function show() {
  const { gateway, alerts, recharge_points: points } = model.status;
  const title = `${alerts.length ? `(${alerts.length}) ` : ""}${gateway.id} – evedge`;
  if (document.title !== title) document.title = title;
  put(at("gateway"), [gateway.id]);
  put(at("summary"), [badge(gateway.state), ...(gateway.reason ? [gateway.reason] : []),
    { text: `${gateway.role}, evedge ${gateway.version}, up ${duration(model.uptime)}`, kind: "quiet" }]);
  put(at("totals"), [totals(points)]);
  at("no-alerts").hidden = alerts.length > 0;
  showSections();
}

/** Tells a screen reader which alerts came and went. */
function announceAlerts() {
  const open = new Map(model.status.alerts.map((alert) => [alert.id, alert]));
  const came = [...open.values()].filter((alert) => !known?.has(alert.id));
  const went = [...(known?.values() ?? [])].filter((alert) => !open.has(alert.id));
  known = open;
  const say = (alert) => `${alert.recharge_point ?? alert.gateway}: ${alert.message}`;
  const news = [...came.map((alert) => `Alert, ${say(alert)}`), ...went.map((alert) => `Over, ${say(alert)}`)];
  if (news.length > NEWS_AT_MOST) announce(`${came.length} new alerts, ${went.length} over.`);
  else if (news.length) announce(`${news.join(". ")}.`);
}

function announce(text) {
  at("news").textContent = text;
}

function connected() {
  put(at("connection"), [{ text: "live", kind: "badge good" }]);
  if (at("lost").hidden) return;
  at("lost").hidden = true;
  document.body.classList.remove("lost");
  announce("Connected again.");
}

function lost(error) {
  put(at("connection"), [{ text: "connection lost", kind: "badge bad" }]);
  const since = heardAt === null ? [] : ["Shown is what was true at", moment(heardAt)];
  const why = error instanceof TypeError ? "the gateway cannot be reached" : error.message; // fetch's own words vary
  put(at("lost"), [{ text: "Connection lost.", kind: "badge bad" }, ...since, `(${why}; trying again)`]);
  if (!at("lost").hidden) return;
  at("lost").hidden = false;
  document.body.classList.add("lost");
  announce("Connection lost.");
}

/** One connection, until it ends. */
async function follow(leave) {
  for await (const [event, data] of events(URL, SILENT_MS, leave)) {
    model.take(event, data);
    heardAt = new Date().toISOString();
    failures = 0;
    show();
    announceAlerts();
    connected();
  }
  throw new Error("the gateway ended it");
}

let failures = 0;
let leaving = null; // aborts the connection that is open
let retry = null;

async function connect() {
  clearTimeout(retry);
  leaving?.abort();
  const mine = leaving = new AbortController();
  try {
    await follow(mine.signal);
  } catch (error) {
    if (leaving !== mine) return; // another one follows already, or nobody looks
    lost(error);
    retry = setTimeout(connect, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  }
}

function disconnect() {
  clearTimeout(retry);
  leaving?.abort();
  leaving = null;
  put(at("connection"), [{ text: "connecting", kind: "badge quiet" }]); // what it will do when somebody looks again
}

let unseen = null;

function seenOrNot() {
  clearTimeout(unseen);
  if (document.hidden) unseen = setTimeout(disconnect, HIDDEN_MS);
  else if (leaving === null || !at("lost").hidden) connect();
}

document.addEventListener("visibilitychange", seenOrNot);
window.addEventListener("online", connect);
setInterval(() => { if (model.status !== null && !document.hidden) show(); }, TICK_MS); // ages grow by themselves
connect();
seenOrNot();
