// What the page's sections show of a status, in words, numbers and badges.

import { UNKNOWN, amperes, bytes, count, duration, moment, quantity, utc } from "./format.js";
import { list, table } from "./rows.js";

const KINDS = { online: "good", up: "good", degraded: "warning", "last poll failed": "warning", warning: "warning",
                offline: "bad", down: "bad", error: "bad" };
const STATES = { suspended_ev: "suspended by the car", suspended_evse: "suspended here" };
const WHEN_FULL = { block: "when full, publishers wait", drop_oldest: "when full, the oldest is dropped" };
const FRESH_S = 5;

/** A word with the colour and the symbol that go with it. */
export function badge(word) {
  return { text: word, kind: `badge ${KINDS[word] ?? "quiet"}` };
}

/** Something of less weight, on a line of its own. */
function small(...pieces) {
  return { tag: "div", kind: "small", pieces };
}

/** Makes the sections of the page, and gives a function that brings them up to date with a Model. */
export function sections(page, model) {
  const parts = ["alerts", "recharge-points", "links", "queues"].map((id) => page.querySelector(`#${id}`));
  const [alerts, points, links, queues] = [
    list(parts[0], (alert) => alert.id, alertPieces),
    table(parts[1], pointColumns((point) => model.age(point)), (point) => point.id, (point) => KINDS[linkOf(point)]),
    table(parts[2], linkColumns, (link) => link.name),
    table(parts[3], queueColumns, (queue) => queue.kafka_topic),
  ];
  return () => {
    const { status } = model;
    alerts.show(status.alerts);
    points.show(status.recharge_points);
    links.show(linkRows(status));
    queues.show(status.queues);
    parts[3].hidden = status.queues.length === 0;
  };
}

function alertPieces(alert) {
  return [badge(alert.severity), { tag: "strong", text: alert.recharge_point ?? alert.gateway }, alert.message,
          small(`${alert.kind}, since `, moment(alert.raised_at))];
}

// Recharge points.

/** `3 recharge points: 2 charging, 1 offline. 22.08 kW together.` */
export function totals(points) {
  const online = points.filter((point) => point.state !== "offline");
  const charging = online.filter((point) => point.values.state === "charging").length;
  const powers = online.map((point) => point.values.active_power_w).filter((power) => typeof power === "number");
  const power = powers.reduce((sum, value) => sum + value, 0);
  return `${points.length} recharge point${points.length === 1 ? "" : "s"}: ${charging} charging, ` +
    `${points.length - online.length} offline. ` + (powers.length ? `${quantity(power, 2, "kW", 1000)} together.` : "");
}

function pointColumns(age) {
  return [
    ["Recharge point", "", (point) => [point.id, small(device(point))]],
    ["Link", "", (point) => [badge(linkOf(point)), ...(point.reason ? [small(point.reason)] : [])]],
    ["State", "value", ({ values }) => [STATES[values.state] ?? String(values.state ?? UNKNOWN)]],
    ["Power", "value number", ({ values }) => [quantity(values.active_power_w, 2, "kW", 1000)]],
    ["Current", "value number", ({ values }) => [currents(values)]],
    ["Limit", "value number", ({ values }) => [limitInForce(values)]],
    ["Why", "", (point) => why(point)],
    ["Last seen", "number", (point) => [lastSeen(point, age(point))]],
  ];
}

/** How a recharge point can be read. One failed poll does not make it offline yet, but people should see it at once. */
function linkOf({ state, quality }) {
  return state !== "offline" && quality === "bad" ? "last poll failed" : state;
}

function device({ identity, agent }) {
  const name = [identity.vendor, identity.model].filter(Boolean).join(" ");
  return [name, agent && `agent ${agent}`].filter(Boolean).join(", ");
}

/** `16.0 / 15.9 / 16.1 A`, as many phases as are measured. */
function currents(values) {
  const phases = [1, 2, 3].map((phase) => values[`current_l${phase}_a`]).filter((value) => typeof value === "number");
  const [last, ...others] = phases.reverse();
  return [...others.reverse().map((value) => value.toFixed(1)), quantity(last, 1, "A")].join(" / ");
}

function limitInForce(values) {
  return typeof values.current_limit_a === "number"
    ? quantity(values.current_limit_a, 1, "A")
    : quantity(values.power_limit_w, 2, "kW", 1000);
}

function why({ limit, agent }) {
  if (limit === null) return [agent ? `agent ${agent} decides` : "takes no commands"];
  const target = limit.paused ? "pause: " : limit.current_a === null ? "" : `${amperes(limit.current_a)}: `;
  const decides = limit.holds.filter((hold) => hold.command_id === limit.command_id);
  const others = limit.holds.filter((hold) => hold.command_id !== limit.command_id);
  return [target + limit.why, ...decides.map((hold) => holder(hold, "")),
          ...others.map((hold) => holder(hold, `also ${hold.purpose} ${held(hold)}, `))];
}

function held(hold) {
  return hold.current_a === null ? "pause" : amperes(hold.current_a);
}

/** Who holds a limit, and until when. */
function holder(hold, before) {
  const who = `${before}by ${hold.issuer ?? "somebody"}, until `;
  return hold.ends_at === null ? small(`${who}replaced`) : small(who, moment(hold.ends_at));
}

function lastSeen(point, age) {
  if (age === null) return "never";
  const text = age < FRESH_S ? "now" : `${duration(age)} ago`;
  return { tag: "time", text, datetime: point.measured_at, title: utc(point.measured_at) };
}

// Links and queues.

const linkColumns = [
  ["Link", "", (link) => [link.name, ...(link.where ? [small(link.where)] : [])]],
  ["State", "", (link) => [badge(link.state)]],
  ["Waiting", "number", (link) => [link.waiting]],
  ["Details", "", (link) => link.details],
];

function linkRows({ links: { mqtt, kafka, journal, broker = null }, queues }) {
  const waiting = queues.reduce((sum, queue) => sum + queue.waiting, 0);
  const rows = [];
  if (broker !== null) {
    rows.push({ name: "Gateway", where: broker.url, state: broker.up ? "up" : "down", waiting: `${count(waiting)} records`,
                details: [`as agent ${broker.agent}`, ...outage(broker)] });
  }
  if (mqtt !== null) {
    rows.push({
      name: "MQTT", where: mqtt.bind ?? "does not listen", state: mqtt.bind === null ? "down" : "up", waiting: UNKNOWN,
      details: [`${count(mqtt.clients)} clients, ${count(mqtt.received)} messages received, ` +
                `${count(mqtt.delivered)} delivered${dropped(mqtt.dropped, ", dropped: ")}`],
    });
  }
  if (kafka !== null) {
    rows.push({ name: "Kafka", where: kafka.bootstrap_servers.join(", "), state: kafka.up ? "up" : "down",
                waiting: `${count(waiting)} records`, details: outage(kafka) });
  }
  rows.push({
    name: "Journal", state: journal.trouble === null ? "up" : "down",
    waiting: bytes(journal.bytes),
    details: [...(journal.trouble === null ? [] : [journal.trouble]),
              `${count(journal.waiting)} records, ${quantity(journal.bytes, 0, "%", journal.max_bytes / 100)} of ` +
              `${bytes(journal.max_bytes)}; ${WHEN_FULL[journal.when_full] ?? journal.when_full}`],
  });
  return rows;
}

/** What keeps a link from its work: its own error while it is down, and what holds single topics up. */
function outage({ up, last_error: error, blocked }) {
  const own = Object.entries(blocked).filter(([, reason]) => up || error === null || !reason.endsWith(error));
  return [...(up ? [] : [error ?? "not reached yet"]), ...own.map(([topic, reason]) => small(`${topic} waits: ${reason}`))];
}

const queueColumns = [
  ["Topic", "", (queue) => [queue.kafka_topic]],
  ["Accepted", "number", (queue) => [count(queue.accepted)]],
  ["Confirmed", "number", (queue) => [count(queue.confirmed)]],
  ["Waiting", "number", (queue) => [count(queue.waiting)]],
  ["Dropped", "number", (queue) => [dropped(queue.dropped, "") || "0"]],
];

function dropped(counts, before) {
  const some = Object.entries(counts).filter(([, number]) => number > 0);
  return some.length ? before + some.map(([reason, number]) => `${count(number)} ${reason}`).join(", ") : "";
}
