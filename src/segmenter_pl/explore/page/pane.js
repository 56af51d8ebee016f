// A picture with its layers: the colours of the classes, the attention, and the mark of the point.
import { paint, paintMap, packed } from "./colors.js";
import { make } from "./elements.js";

export class Pane {
  // key: "A", "B" or "difference". calls: point(x, y) and step(dx, dy) of the mark, under(x, y) of the pointer.
  constructor(key, title, calls) {
    this.key = key;
    this.canvases = Object.fromEntries(
      ["picture", "labels", "attention"].map((name) => [name, make("canvas", { className: name })]),
    );
    this.mark = make("div", { className: "mark", hidden: true });
    this.layers = make("div", { className: "layers", tabIndex: 0 }, ...Object.values(this.canvases), this.mark);
    this.layers.setAttribute("role", "application");
    this.layers.setAttribute("aria-label", `${title}: click or use the arrow keys to move the point`);
    this.caption = make("figcaption", {}, make("b", { textContent: title }), make("span"));
    this.element = make("figure", { className: "pane" }, this.caption, this.layers);
    this.element.dataset.pane = key;
    this.size = [1, 1];
    this.#listen(calls);
  }

  #listen({ point, step, under }) {
    const place = (event) => {
      const box = this.layers.getBoundingClientRect();
      const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      return share.map((one, i) => Math.min(Math.max(Math.floor(one * this.size[i]), 0), this.size[i] - 1));
    };
    this.layers.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.layers.setPointerCapture(event.pointerId);
      point(...place(event));
    });
    this.layers.addEventListener("pointermove", (event) => {
      under(...place(event));
      if (event.buttons & 1) point(...place(event));
    });
    this.layers.addEventListener("pointerleave", () => under(null));
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    this.layers.addEventListener("keydown", (event) => {
      if (!arrows[event.key]) return;
      event.preventDefault();
      step(...arrows[event.key]);
    });
  }

  tell(text) {
    this.caption.lastChild.textContent = text;
  }

  showPicture(bitmap) {
    const { width, height } = bitmap;
    this.size = [width, height];
    Object.assign(this.canvases.picture, { width, height });
    this.canvases.picture.getContext("2d").drawImage(bitmap, 0, 0);
    this.element.style.setProperty("--ratio", width / height);
  }

  // table: the colour of each class.
  showLabels({ width, height, data }, table) {
    paint(this.canvases.labels, width, height, data, table);
    this.canvases.labels.hidden = false;
  }

  // The pixels where two label maps differ; returns their share.
  showDifference(one, other) {
    const differs = Uint8Array.from(one.data, (label, i) => (label === other.data[i] ? 0 : 1));
    paint(this.canvases.labels, one.width, one.height, differs, [0, packed(230, 0, 120, 255)]);
    this.canvases.labels.hidden = false;
    return differs.reduce((sum, value) => sum + value, 0) / differs.length;
  }

  // values: a number for each patch. Returns the numbers of the first and the last colour.
  showAttention(values, [height, width], covers) {
    const canvas = this.canvases.attention;
    Object.assign(canvas.style, { width: `${100 * covers[1]}%`, height: `${100 * covers[0]}%` });
    canvas.hidden = false;
    return paintMap(canvas, width, height, values);
  }

  // box: first and last column, first and last row of pixels.
  showMark([left, right, top, bottom]) {
    const [width, height] = this.size;
    Object.assign(this.mark.style, {
      left: `${(100 * left) / width}%`,
      top: `${(100 * top) / height}%`,
      width: `${(100 * (right + 1 - left)) / width}%`,
      height: `${(100 * (bottom + 1 - top)) / height}%`,
    });
    this.mark.hidden = false;
  }

  clear(...names) {
    for (const name of names) (name === "mark" ? this.mark : this.canvases[name]).hidden = true;
  }
}
