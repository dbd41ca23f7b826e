// Tables and lists whose rows are known by a key, so that only what changed is touched: 200 rows stay smooth, a
// selection survives, and a screen reader is not sent back to the start.
//
// A cell's content is a list of pieces: a text, or {tag, text, kind, title, datetime}, or a line with pieces of its own,
// {tag: "div", kind, pieces}. Texts come from devices and other people: they enter the page as text only, never as markup.

/** Make an element hold these pieces, changing as little as possible. */
export function put(element, pieces) {
  pieces.forEach((piece, index) => {
    const { tag = "span", text, pieces: inner, kind = "", title, datetime } = typeof piece === "string" ? { text: piece } : piece;
    let child = element.children[index];
    if (child?.localName !== tag) {
      const made = document.createElement(tag);
      if (child) child.replaceWith(made); else element.append(made);
      child = made;
    }
    if (inner) put(child, inner);
    else if (child.textContent !== text) child.textContent = text;
    if (child.className !== kind) child.className = kind;
    attribute(child, "title", title);
    attribute(child, "datetime", datetime);
  });
  while (element.children.length > pieces.length) element.lastElementChild.remove();
}

function attribute(element, name, value) {
  if (value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Children of an element, one for each item. `make(item)` makes one, `fill(child, item)` brings it up to date. */
class Keyed {
  #children = new Map();

  constructor(parent, key, make, fill) {
    Object.assign(this, { parent, key, make, fill });
  }

  show(items) {
    const gone = new Set(this.#children.keys());
    items.forEach((item, index) => {
      const key = this.key(item);
      gone.delete(key);
      if (!this.#children.has(key)) this.#children.set(key, this.make(item));
      const child = this.#children.get(key);
      this.fill(child, item);
      const there = this.parent.children[index];
      if (there !== child) this.parent.insertBefore(child, there ?? null);
    });
    for (const key of gone) {
      this.#children.get(key).remove();
      this.#children.delete(key);
    }
  }
}

/**
 * A table in a section. Columns: [label, kind, content(item)]; the first one names the row. `mark(item)` is kept as the
 * row's data-mark. Roles are spelled out: narrow screens show rows as cards, and browsers forget then what a table is.
 */
export function table(section, columns, key, mark = () => "") {
  const head = document.createElement("tr");
  head.role = "row";
  head.append(...columns.map(([label, kind]) => cell("th", "columnheader", "col", kind, label)));
  section.querySelector("thead").replaceChildren(head);

  function make() {
    const row = document.createElement("tr");
    row.role = "row";
    row.append(...columns.map(([label, kind], index) => {
      const made = index === 0 ? cell("th", "rowheader", "row", kind) : cell("td", "cell", null, kind);
      made.dataset.label = label;
      return made;
    }));
    return row;
  }

  function fill(row, item) {
    const marked = mark(item);
    if (row.dataset.mark !== marked) row.dataset.mark = marked;
    columns.forEach(([, , content], index) => put(row.children[index], content(item)));
  }

  return new Keyed(section.querySelector("tbody"), key, make, fill);
}

function cell(tag, role, scope, kind, text = "") {
  const made = document.createElement(tag);
  made.role = role;
  if (scope) made.scope = scope;
  made.className = kind;
  made.textContent = text;
  return made;
}

/** A list in a section; `content(item)` gives an item's pieces. */
export function list(section, key, content) {
  return new Keyed(section.querySelector("ul"), key, () => document.createElement("li"),
    (item, value) => put(item, content(value)));
}
