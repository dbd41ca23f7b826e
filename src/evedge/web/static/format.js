// Numbers with their units and times in the viewer's zone, for people. What is not known is a dash, never 0.

export const UNKNOWN = "–";

const numbers = [0, 1, 2].map((digits) =>
  new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const timeOfDay = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** `11.04 kW`; the space does not break. */
export function quantity(value, digits, unit, divisor = 1) {
  return typeof value === "number" ? `${numbers[digits].format(value / divisor)}\u00a0${unit}` : UNKNOWN;
}

/** `16 A`, `7.5 A`: a limit as somebody gave it. */
export function amperes(value) {
  return `${Number(value.toFixed(2))}\u00a0A`;
}

export function count(value) {
  return numbers[0].format(value);
}

/** `4.0 KiB` */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return quantity(value, step === 0 ? 0 : 1, units[step], 1024 ** step);
}

/** `41 s`, `12 min`, `3 h 5 min`, `2 d 4 h` */
export function duration(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A moment (RFC 3339 UTC) as a piece of a cell: the time of day, with its date unless that is today; UTC as title. */
export function moment(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return { tag: "time", text: (today ? timeOfDay : dayAndTime).format(at), datetime: text, title: utc(text) };
}

export function utc(text) {
  return `${text.slice(0, 19).replace("T", " ")} UTC`;
}
