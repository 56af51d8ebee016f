// The point: what the model makes of the pixel there, and what its patch attends to.
import { clearBars, showBars } from "./bars.js";
import { $, during } from "./elements.js";
import { attention, json, latest } from "./server.js";

export class Pointing {
  // may(): whether there is a picture to point at, and it is at rest.
  constructor({ models, same, views, shown, may }) {
    Object.assign(this, { models, same, views, shown, may, controls: null });
    this.asked = latest(() => this.#ask());
    this.forget();
  }

  forget() {
    this.point = null;
    this.looks = []; // what the server tells of the attention at the point, for each model
    this.hideAttention();
    for (const pane of this.views.panes) pane.clear("mark");
    clearBars();
    this.controls?.clear();
  }

  hideAttention() {
    for (const pane of this.views.models) pane.clear("attention");
  }

  put(x, y) {
    if (!this.may()) return;
    this.point = { x, y };
    $("at").textContent = `at ${x}, ${y}`;
    this.asked();
  }

  // The same point in another frame.
  again() {
    if (this.point) this.put(this.point.x, this.point.y);
  }

  async #ask() {
    const { point, shown, models } = this;
    if (!point) return;
    const { item, frame } = shown;
    const address = (what, i) => `/pictures/${item.id}/${what}?model=${i}&frame=${frame}&x=${point.x}&y=${point.y}`;
    const stale = () => !this.point || shown.item !== item || shown.frame !== frame || !this.may();
    const found = await during(Promise.all(models.map((_, i) => json(address("probabilities", i)))));
    if (!found || stale()) return;
    showBars(models, found, this.same);
    const wanted = models.map(({ layers }, i) => layers.length && attention(address("attention", i), layers));
    const come = await during(Promise.all(wanted));
    if (!come || stale()) return;
    this.looks = come;
    this.draw();
  }

  get #box() {
    const { point, looks } = this;
    return looks.find(Boolean)?.box ?? (point && [point.x, point.x, point.y, point.y]);
  }

  // The maps of the chosen layer and head, and the mark.
  draw() {
    this.looks.forEach((look, i) => {
      const pane = this.views.models[i];
      const values = look && this.controls.chosen(this.models[i].layers, look.maps);
      if (!values) {
        pane.clear("attention");
        return;
      }
      const ends = pane.showAttention(values, look.grid, look.covers);
      if (i === this.looks.findIndex(Boolean)) this.controls.tell(ends, look.patch);
    });
    if (this.#box) for (const pane of this.views.panes) pane.showMark(this.#box);
  }

  // Moves the point by patches; without one, it begins in the middle.
  step(dx, dy) {
    if (!this.shown.bitmap) return;
    const { width, height } = this.shown.bitmap;
    if (!this.point) {
      this.put(width >> 1, height >> 1);
      return;
    }
    const [left, right, top, bottom] = this.#box;
    const move = (place, first, last, by, most) =>
      by ? Math.min(Math.max(by > 0 ? last + 1 : first - 1, 0), most - 1) : place;
    this.put(move(this.point.x, left, right, dx, width), move(this.point.y, top, bottom, dy, height));
  }
}
