// The classes of a model: colour, name, share of the pixels, and how strongly each is shown.
import { css, packed } from "./colors.js";
import { make, percent } from "./elements.js";

export class Legend {
  // letters: of the models whose classes these are. changed() is called after a change of opacity.
  constructor({ classes, palette }, letters, changed) {
    this.letters = letters;
    this.palette = palette;
    this.opacity = classes.map(() => 1);
    this.table = new Uint32Array(classes.length);
    this.changed = changed;
    this.rows = classes.map((name, k) => this.#row(name, k));
    this.present = make("ul", { className: "legend" });
    this.absent = make("ul", { className: "legend" });
    this.rest = make("details", { hidden: true }, make("summary"), this.absent);
    this.element = make("div", {}, this.present, this.rest);
    this.set(1);
  }

  #row(name, k) {
    const swatch = make("button", { type: "button", className: "swatch", title: `Show or hide ${name}` });
    swatch.style.setProperty("--color", css(this.palette[k]));
    const slider = make("input", { type: "range", min: 0, max: 100, ariaLabel: `Opacity of ${name}` });
    const shares = this.letters.map(() => make("span", { className: "share" }));
    slider.addEventListener("input", () => this.#change(k, slider.value / 100));
    swatch.addEventListener("click", () => this.#change(k, this.opacity[k] ? 0 : 1));
    const element = make("li", {}, swatch, make("span", { className: "name", textContent: name, title: name }));
    element.append(...shares, slider);
    element.dataset.class = k;
    return { element, slider, swatch, shares };
  }

  #change(k, opacity) {
    this.#put(k, opacity);
    this.changed();
  }

  #put(k, opacity) {
    const { slider, swatch } = this.rows[k];
    this.opacity[k] = opacity;
    this.table[k] = packed(...this.palette[k], Math.round(255 * opacity));
    slider.value = Math.round(100 * opacity);
    slider.style.setProperty("--value", opacity);
    swatch.ariaPressed = String(opacity > 0);
    swatch.style.setProperty("--opacity", opacity);
  }

  // All classes at once.
  set(opacity) {
    this.rows.forEach((_, k) => this.#put(k, opacity));
    this.changed();
  }

  // shares: for each letter [class, share] of those that are there, or null; order: whether the largest come first anew.
  show(shares, order) {
    const found = this.rows.map(() => this.letters.map(() => 0));
    shares.forEach((list, i) => list?.forEach(([k, share]) => (found[k][i] = share)));
    this.rows.forEach(({ shares: cells }, k) =>
      cells.forEach((cell, i) => {
        cell.textContent = shares[i] ? percent(found[k][i]) : "";
        cell.title = this.letters.length > 1 ? `Of the pixels, in ${this.letters[i]}` : "Of the pixels";
      }),
    );
    const total = (k) => found[k].reduce((sum, share) => sum + share, 0);
    const known = new Set(this.present.children);
    const there = this.rows.map((_, k) => k).filter((k) => total(k) || (!order && known.has(this.rows[k].element)));
    if (order) there.sort((a, b) => total(b) - total(a) || a - b);
    const missing = this.rows.map((_, k) => k).filter((k) => !there.includes(k));
    if (order) this.present.replaceChildren(...there.map((k) => this.rows[k].element));
    else this.present.append(...there.map((k) => this.rows[k].element).filter((element) => !known.has(element)));
    this.absent.replaceChildren(...missing.map((k) => this.rows[k].element));
    this.rest.hidden = !missing.length;
    this.rest.firstChild.textContent = `${missing.length} not in this picture`;
  }
}
