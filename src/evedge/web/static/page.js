// Asks for the status every two seconds and shows it. Texts come from devices and other people: they go into the page
// as text only, never as markup.
"use strict";

const EVERY_MS = 2000;
const DEADLINE_MS = 5000;
const COLOURS = { online: "good", up: "good", degraded: "warning", warning: "warning",
                  offline: "bad", down: "bad", error: "bad" };
let lastSeen = null;

function cell(text, kind = "") {
  return { text: text === null || text === undefined ? "–" : String(text), kind };
}

function fill(id, rows) {
  const body = document.querySelector(`#${id} tbody`);
  body.replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    for (const { text, kind } of row) {
      const item = document.createElement("td");
      item.textContent = text;
      item.className = kind;
      line.append(item);
    }
    return line;
  }));
}

function number(value, digits, unit, divisor = 1) {
  return typeof value === "number" ? `${(value / divisor).toFixed(digits)} ${unit}` : null;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return null;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

function clock(text) {
  return text === null ? null : new Date(text).toLocaleString();
}

function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function reasons(counts) {
  return Object.entries(counts).map(([reason, count]) => `${count} ${reason}`).join(", ");
}

function limit(point) {
  if (point.limit === null) return cell(null, "quiet");
  const what = point.limit.paused ? "paused" : number(point.limit.current_a, 1, "A");
  return cell(what === null ? point.limit.why : `${what}: ${point.limit.why}`);
}

function rechargePoint(point) {
  const values = point.values;
  const old = point.state === "offline" ? " quiet" : "";
  const who = [point.identity.vendor, point.identity.model, point.identity.serial_number].filter(Boolean).join(" ");
  return [
    cell(point.id),
    cell(point.reason ? `${point.state}: ${point.reason}` : point.state, COLOURS[point.state]),
    cell(values.state, old),
    cell(number(values.active_power_w, 2, "kW", 1000), `number${old}`),
    cell(number(values.energy_import_wh, 1, "kWh", 1000), `number${old}`),
    cell(number(values.current_limit_a, 1, "A"), `number${old}`),
    limit(point),
    cell(duration(point.age_s), "number"),
    cell(who || (point.agent ? `agent ${point.agent}` : null), "quiet"),
  ];
}

function links({ mqtt, kafka, journal }) {
  const rows = [];
  if (mqtt) {
    const state = mqtt.bind === null ? "down" : "up";
    rows.push([cell(`MQTT ${mqtt.bind ?? ""}`), cell(state, COLOURS[state]),
               cell(`${mqtt.clients} clients, ${mqtt.received} received, ${mqtt.delivered} delivered`)]);
  }
  if (kafka) {
    const state = kafka.up ? "up" : "down";
    const blocked = Object.entries(kafka.blocked).map(([topic, reason]) => `${topic}: ${reason}`).join("; ");
    rows.push([cell(`Kafka ${kafka.bootstrap_servers.join(", ")}`), cell(state, COLOURS[state]),
               cell(blocked || (kafka.up ? "" : kafka.last_error ?? "not asked yet"))]);
  }
  const room = `${(journal.bytes / 1048576).toFixed(1)} of ${(journal.max_bytes / 1048576).toFixed(0)} MiB, ` +
    `${journal.waiting} waiting`;
  rows.push([cell("Journal"), cell(journal.trouble ? "down" : "up", journal.trouble ? "bad" : "good"),
             cell(journal.trouble ? `${journal.trouble}; ${room}` : room)]);
  return rows;
}

function show(status) {
  const { gateway, alerts } = status;
  document.title = `${gateway.id} – evedge`;
  document.querySelector("#gateway").textContent = gateway.id;
  const summary = document.querySelector("#summary");
  summary.textContent = `${gateway.state}${gateway.reason ? ` (${gateway.reason})` : ""}, ${gateway.role}, ` +
    `evedge ${gateway.version}, up ${duration(gateway.uptime_s)}`;
  summary.className = COLOURS[gateway.state];
  document.querySelector("#alerts").hidden = alerts.length === 0;
  fill("alerts", alerts.map((alert) => [cell(alert.severity, COLOURS[alert.severity]),
    cell(alert.recharge_point ?? alert.gateway), cell(alert.message), cell(clock(alert.raised_at))]));
  fill("recharge-points", status.recharge_points.map(rechargePoint));
  fill("links", links(status.links));
  fill("queues", status.queues.map((queue) => [cell(queue.kafka_topic), cell(queue.accepted, "number"),
    cell(queue.confirmed, "number"), cell(queue.waiting, "number"),
    cell(sum(queue.dropped) ? reasons(queue.dropped) : 0, sum(queue.dropped) ? "number bad" : "number")]));
}

function lost(error) {
  const summary = document.querySelector("#summary");
  summary.textContent = lastSeen === null
    ? `The gateway does not answer (${error.message}).`
    : `The gateway does not answer; what follows is of ${lastSeen.toLocaleString()}.`;
  summary.className = "bad";
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS) });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      show(await answer.json());
      lastSeen = new Date();
      document.body.classList.remove("lost");
    } catch (error) {
      document.body.classList.add("lost");
      lost(error);
    }
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();
