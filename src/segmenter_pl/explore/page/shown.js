// The picture or frame that is shown, and frames of a video that are kept for a second showing.
import { make } from "./elements.js";
import { bitmap, labels } from "./server.js";

const KEPT_BYTES = 256e6;

export class Shown {
  constructor(models) {
    this.models = models;
    this.clear();
  }

  clear() {
    Object.assign(this, { item: null, frame: 0, bitmap: null, labels: this.models.map(() => null) });
    this.kept = new Map();
    this.bytes = 0;
  }

  // A picture or frame and its labels; early(bitmap) is called while the labels are still to come.
  async fetch(item, frame, early) {
    if (this.item === item && this.kept.has(frame)) return this.kept.get(frame);
    const address = (what, model) => `/pictures/${item.id}/${what}?model=${model}&frame=${frame}`;
    const picture = bitmap(address("picture", 0)).then((one) => (early(one), one));
    const all = await Promise.all([picture, ...this.models.map((_, i) => labels(address("labels", i)))]);
    return { bitmap: all[0], labels: all.slice(1) };
  }

  // From now on it is the one that is shown.
  put(item, frame, found) {
    Object.assign(this, { item, frame, ...found });
    if (item.video && !this.kept.has(frame)) this.#keep(frame, found);
  }

  #keep(frame, found) {
    const { width, height } = found.bitmap;
    this.bytes += width * height * (4 + this.models.length);
    if (this.bytes < KEPT_BYTES) this.kept.set(frame, found);
  }

  namesAt(x, y, letters) {
    const names = this.labels.map(({ data, width }, i) => this.models[i].classes[data[y * width + x]]);
    return names.length > 1 ? names.map((name, i) => `${letters[i]} ${name}`).join(", ") : names[0];
  }

  downloads(letters) {
    return this.models.map((_, i) => {
      const text = this.models.length > 1 ? `↓ Labels ${letters[i]}` : "↓ Labels (PNG)";
      const link = make("a", { textContent: text, download: "", title: "Class ids as a palette PNG" });
      link.href = `/pictures/${this.item.id}/labels.png?model=${i}&frame=${this.frame}`;
      return link;
    });
  }
}
