// What is known of the gateway: the last status, kept up to date by changes. Knows nothing of the page.

export class Model {
  /** The document of /api/v1/status, or null before the first. */
  status = null;
  #heardAt = new Map();

  /** Take an event in: `status` is everything, `change` what is new. Others are left for later versions. */
  take(event, data) {
    if (event === "status") {
      this.status = data;
      this.#heardAt.clear();
    } else if (event === "change" && this.status !== null) {
      const { recharge_points: changed = [], ...parts } = data;
      const news = new Map(changed.map((point) => [point.id, point]));
      const points = this.status.recharge_points.map((point) => ({ ...point, ...news.get(point.id) }));
      this.status = { ...this.status, ...parts, recharge_points: points };
    }
    const now = Date.now();
    if (data.gateway) this.#heardAt.set(null, now);
    for (const point of data.recharge_points ?? []) this.#heardAt.set(point.id, now);
  }

  /** How old a recharge point's values are now, in seconds; null when it was never read. */
  age(point) {
    return point.age_s === null ? null : point.age_s + this.#since(point.id);
  }

  /** How long the gateway runs, in seconds. */
  get uptime() {
    return this.status.gateway.uptime_s + this.#since(null);
  }

  #since(key) {
    return Math.max(0, Date.now() - this.#heardAt.get(key)) / 1000;
  }
}
